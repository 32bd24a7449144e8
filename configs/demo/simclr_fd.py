"""The demo: distil a small SimCLR ViT on images that mmfd draws.

    python tools/train.py configs/demo/simclr_fd.py
"""
_base_ = [
    '../_base_/distillation.py',
    '_base_/shapes.py',
    '_base_/networks.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=_base_.student,
    neck=dict(in_channels=96, out_channels=96))

train_cfg = dict(type='mmfd.ResumableLoop', max_epochs=4, val_interval=4)
val_evaluator = test_evaluator = [
    dict(type='mmfd.NearestNeighbours'),
    dict(type='mmfd.HeldOutLoss'),
]
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=3.2e-2, weight_decay=0.05),  # per 512
    clip_grad=dict(max_norm=3.0))
default_hooks = dict(
    monitor=dict(type='mmfd.CollapseMonitorHook', interval=100),
    param_scheduler=dict(
        type='mmfd.WarmupCosineHook',
        warmup_epochs=1,
        warmup_lr=1e-5,  # per 512 images
        min_lr=1e-4))  # per 512 images
param_scheduler = None
