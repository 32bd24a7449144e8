"""300 epochs of distillation. The three rates are per 512 images."""
_base_ = '../runtime.py'

train_cfg = dict(type='mmfd.ResumableLoop', max_epochs=300, val_interval=5)
optim_wrapper = dict(
    type='mmfd.AmpOptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    optimizer=dict(
        type='AdamW',
        lr=3e-4,  # per 512 images: 1.2e-3 at 2048
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05),
    clip_grad=dict(max_norm=3.0))
default_hooks = dict(
    monitor=dict(type='mmfd.CollapseMonitorHook', interval=100),
    param_scheduler=dict(
        type='mmfd.WarmupCosineHook',
        warmup_epochs=10,
        warmup_lr=5e-7,  # per 512 images
        min_lr=5e-6))  # per 512 images
param_scheduler = None  # replaced by the hook above
