"""The recipe that fine-tunes every network at small scale: 12 epochs."""
_base_ = ['schedule.py', 'networks.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        _base_.statistics,
        type='mmpretrain.ClsDataPreprocessor',
        to_rgb=True,
        num_classes=10),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(
            type='mmpretrain.LabelSmoothLoss',
            label_smooth_val=0.1,
            mode='original')))
train_cfg = dict(type='mmfd.ResumableLoop', max_epochs=12, val_interval=12)
val_evaluator = test_evaluator = dict(type='mmpretrain.Accuracy', topk=1)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.8))
