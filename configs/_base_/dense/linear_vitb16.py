"""A linear layer on the last map of a frozen ViT-B/16, on ADE20K.

A quick test of features, 20,000 iterations; the protocol is not the paper's.
"""
_base_ = 'upernet_vitb16.py'

maps = dict(
    _delete_=True,
    img_size=512,
    frozen_stages=12,
    final_norm=True,
    out_type='featmap',
    out_indices=[11])
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
iterations = 20000
_base_.param_scheduler[1].end = iterations
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(checkpoint=dict(interval=iterations))
