"""Contrast: mmpretrain's SimCLR, two views of 20,000 images, 40 epochs.

    python tools/train.py configs/small/simclr_teacher_small.py
"""
_base_ = '_base_/pretraining.py'

model = dict(
    type='mmpretrain.SimCLR',
    backbone=dict(out_type='cls_token'),
    neck=dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=128,
        hid_channels=512,
        out_channels=128,
        num_layers=2,
        with_avg_pool=False),
    head=dict(
        type='mmpretrain.ContrastiveHead',
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        temperature=0.2))
view = [
    dict(_base_.crop, crop_ratio_range=(0.2, 1.0)),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        transforms=[
            dict(
                type='mmpretrain.ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1)
        ],
        prob=0.8),
    dict(type='mmpretrain.RandomGrayscale', prob=0.2, keep_channels=True),
]
train_dataloader = dict(
    batch_size=256,
    dataset=dict(pipeline=[
        dict(type='mmfd.LoadImage'),
        dict(type='mmpretrain.MultiView', num_views=2, transforms=[view]),
        dict(type='mmpretrain.PackInputs'),
    ]))
