"""A linear layer on a frozen ViT-B/16's last map, for a quick look at ADE20K.

20,000 iterations; a protocol of our own, not the paper's.
"""
_base_ = 'upernet_ade20k.py'

model = dict(
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=768,
        in_index=0,
        channels=768,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')),
    auxiliary_head=None)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=1500),
    dict(
        type='PolyLR',
        power=1.0,
        eta_min=0.0,
        by_epoch=False,
        begin=1500,
        end=20000)
]
train_cfg = dict(max_iters=20000, val_interval=20000)
default_hooks = dict(checkpoint=dict(interval=20000))
