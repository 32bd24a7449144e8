"""What the teachers share: images without labels, their network, 40 epochs."""
_base_ = ['schedule.py', 'networks.py']

model = dict(
    data_preprocessor=dict(
        _base_.statistics,
        type='mmpretrain.SelfSupDataPreprocessor',
        to_rgb=True),
    backbone=dict(_base_.grid, type='mmpretrain.VisionTransformer'))
train_cfg = dict(type='mmfd.ResumableLoop', max_epochs=40)
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
