"""Official fine-tuning of ViT-B. The three rates are per 512 images."""
_base_ = '../runtime.py'

train_cfg = dict(type='mmfd.ResumableLoop', max_epochs=100, val_interval=1)
optim_wrapper = dict(
    type='mmfd.AmpOptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.6),
    optimizer=dict(
        type='AdamW',
        lr=1.25e-3,  # per 512 images: 5e-3 at 2048
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05),
    clip_grad=dict(max_norm=5.0))
default_hooks = dict(
    checkpoint=dict(save_best='accuracy/top1'),
    param_scheduler=dict(
        type='mmfd.WarmupCosineHook',
        warmup_epochs=20,
        warmup_lr=2.5e-7,  # per 512 images
        min_lr=2.5e-7))  # per 512 images
param_scheduler = None  # replaced by the hook above
