"""The recipe that fine-tunes each network of the demo."""
_base_ = ['shapes.py', 'networks.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=_base_.statistics.mean,
        std=_base_.statistics.std,
        to_rgb=True,
        num_classes=10),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=10,
        in_channels=96,
        loss=dict(
            type='mmpretrain.LabelSmoothLoss',
            label_smooth_val=0.1,
            mode='original')))

train_cfg = dict(type='mmfd.ResumableLoop', max_epochs=3, val_interval=1)
val_evaluator = test_evaluator = dict(type='mmpretrain.Accuracy', topk=1)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.8),
    optimizer=dict(type='AdamW', lr=1.6e-2, weight_decay=0.05),  # per 512
    clip_grad=dict(max_norm=5.0))
default_hooks = dict(
    param_scheduler=dict(
        type='mmfd.WarmupCosineHook',
        warmup_epochs=1,
        warmup_lr=1e-5,  # per 512 images
        min_lr=1e-5))  # per 512 images
param_scheduler = None
