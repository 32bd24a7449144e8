"""Official fine-tuning of ViT-L. The three rates are per 512 images."""
_base_ = 'finetune_vitb.py'

train_cfg = dict(max_epochs=50)
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay=0.75),
    optimizer=dict(lr=2.5e-4))  # per 512 images: 1e-3 at 2048
default_hooks = dict(
    param_scheduler=dict(
        warmup_epochs=5,
        warmup_lr=5e-7,  # per 512 images
        min_lr=5e-7))  # per 512 images
