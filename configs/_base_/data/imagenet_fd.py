"""ImageNet-1K without labels, as FD sees it: crops and flips, no colour."""
data_root = 'data/imagenet'
img_size = 224

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root=data_root,
        data_prefix='train',
        with_label=False,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='mmpretrain.RandomResizedCrop',
                scale=img_size,
                crop_ratio_range=(0.08, 1.0),
                interpolation='bilinear',
                backend='pillow'),
            dict(type='mmpretrain.RandomFlip', prob=0.5),
            dict(type='mmpretrain.PackInputs'),
        ]))

# held-out loss: python tools/test.py CONFIG CHECKPOINT
test_dataloader = dict(
    batch_size=128,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root=data_root,
        data_prefix='val',
        with_label=False,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='mmpretrain.ResizeEdge',
                scale=256,
                edge='short',
                interpolation='bilinear',
                backend='pillow'),
            dict(type='mmpretrain.CenterCrop', crop_size=img_size),
            dict(type='mmpretrain.PackInputs'),
        ]))
test_cfg = dict()
test_evaluator = []
