"""300 epochs of distillation of a Swin. The three rates are per 512 images."""
_base_ = 'fd_300e.py'

optim_wrapper = dict(optimizer=dict(lr=2e-4))  # per 512 images: 8e-4 at 2048
default_hooks = dict(
    param_scheduler=dict(
        warmup_lr=1e-6,  # per 512 images
        min_lr=1e-5))  # per 512 images
