"""Images as FD sees them: crops and flips, no colour, no labels.

`data_root` is an ImageNet tree, any folder of images or a list of folders:
see `mmfd.ImageFolder`. Labels are read where there are some, for kNN alone.
"""
_base_ = 'workers.py'

data_root = 'data/imagenet'
img_size = 224

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
        pipeline=[
            dict(
                type='mmfd.LoadCrop',
                crop=dict(
                    type='mmpretrain.RandomResizedCrop',
                    scale=img_size,
                    crop_ratio_range=(0.08, 1.0),
                    interpolation='bilinear')),
            dict(type='mmpretrain.RandomFlip', prob=0.5),
            dict(type='mmpretrain.PackInputs'),
        ]))
val_dataloader = dict(
    batch_size=128,
    num_workers=_base_.num_workers,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfd.ImageFolder',
        data_root=data_root,
        split='val',
        pipeline=[
            dict(type='mmfd.LoadImage'),
            dict(
                type='mmpretrain.ResizeEdge',
                scale=256,
                edge='short',
                interpolation='bilinear',
                backend='pillow'),
            dict(type='mmpretrain.CenterCrop', crop_size=img_size),
            dict(type='mmpretrain.PackInputs'),
        ]))
test_dataloader = val_dataloader
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = [  # the best checkpoint is by the first
    dict(type='mmfd.NearestNeighbours'),
    dict(type='mmfd.HeldOutLoss'),
]
