"""MAE's linear probe (arXiv 2111.06377, table 10). Rates per 512 images.

Assumed: the official script was published without its numbers, but head,
optimizer and crops are MAE's. Gradients are not clipped.
"""
_base_ = '../runtime.py'

train_cfg = dict(type='mmfd.ResumableLoop', max_epochs=90, val_interval=1)
optim_wrapper = dict(
    type='mmfd.AmpOptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    optimizer=dict(
        type='mmfd.LARS',
        lr=0.2,  # per 512 images: 6.4 at 16384
        momentum=0.9,
        weight_decay=0.))
default_hooks = dict(
    checkpoint=dict(save_best='accuracy/top1'),
    param_scheduler=dict(
        type='mmfd.WarmupCosineHook',
        warmup_epochs=10,
        warmup_lr=0.,
        min_lr=0.))
param_scheduler = None  # replaced by the hook above
