"""The demo's teacher: SimCLR on images that mmfd draws, without labels.

mmpretrain's own SimCLR (Chen et al., arXiv 2002.05709) on a ViT of 6 blocks
and 96 channels at 48 pixels. `make demo-teacher` runs it and writes
`configs/demo/teacher.pth`, which is part of the project.
"""
_base_ = '../_base_/statistics.py'

custom_imports = dict(imports=['mmpretrain.models', 'mmpretrain.datasets'])
default_scope = 'mmpretrain'

model = dict(
    type='mmpretrain.SimCLR',
    data_preprocessor=dict(
        _base_.pop('statistics_of').imagenet,
        type='mmpretrain.SelfSupDataPreprocessor',
        bgr_to_rgb=True),
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch=dict(
            embed_dims=96, num_layers=6, num_heads=3,
            feedforward_channels=384),
        img_size=48,
        patch_size=8,
        out_type='cls_token'),
    neck=dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=96,
        hid_channels=384,
        out_channels=96,
        num_layers=2,
        with_avg_pool=False),
    head=dict(
        type='mmpretrain.ContrastiveHead',
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        temperature=0.2))

view = [
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=48,
        crop_ratio_range=(0.3, 1.0)),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        transforms=[
            dict(
                type='mmpretrain.ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.5)
        ],
        prob=0.8),
    dict(type='mmpretrain.RandomGrayscale', prob=0.5, keep_channels=True),
]
train_dataloader = dict(
    batch_size=256,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root='data/shapes/imagenet/train',
        with_label=False,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmpretrain.MultiView', num_views=2, transforms=[view]),
            dict(type='mmpretrain.PackInputs'),
        ]))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=1.5e-3, weight_decay=0.05, betas=(0.9, 0.98)))
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-3, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=5,
        eta_min=1e-5,
        convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=60)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20),
    checkpoint=dict(type='CheckpointHook', interval=5, max_keep_ckpts=1))
randomness = dict(seed=0)
