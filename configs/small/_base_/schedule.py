"""AdamW, two epochs of warm-up, half a cosine. Rates per 512 images."""
_base_ = 'images.py'

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=3.0))
default_hooks = dict(
    param_scheduler=dict(
        type='mmfd.WarmupCosineHook',
        warmup_epochs=2,
        warmup_lr=1e-5,
        min_lr=1e-5))
param_scheduler = None
