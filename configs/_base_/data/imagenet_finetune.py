"""ImageNet-1K with labels, as the official fine-tuning sees it."""
_base_ = 'workers.py'

data_root = 'data/imagenet'
img_size = 224
num_classes = 1000
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # RGB

train_pipeline = [
    dict(
        type='mmfd.LoadCrop',
        crop=dict(
            type='mmpretrain.RandomResizedCrop',
            scale=img_size,
            crop_ratio_range=(0.08, 1.0),
            interpolation='bicubic')),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(  # rand-m9-mstd0.5-inc1
        type='mmpretrain.RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=mean[::-1], interpolation='bicubic')),
    dict(
        type='mmpretrain.RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=mean[::-1],
        fill_std=std[::-1]),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='mmfd.LoadImage'),
    dict(
        type='mmpretrain.ResizeEdge',
        scale=256,
        edge='short',
        interpolation='bicubic',
        backend='pillow'),
    dict(type='mmpretrain.CenterCrop', crop_size=img_size),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=_base_.num_workers,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='mmfd.ResumableSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfd.ImageFolder',
        data_root=data_root,
        split='train',
        with_label=True,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=128,
    num_workers=_base_.num_workers,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfd.ImageFolder',
        data_root=data_root,
        split='val',
        with_label=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = dict(type='mmpretrain.Accuracy', topk=1)
