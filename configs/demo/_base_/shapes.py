"""The images that mmfd draws, in ImageNet's layout, at 48 pixels."""
_base_ = '../../_base_/runtime.py'

data_root = 'data/shapes/imagenet'
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='mmfd.ResumableSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfd.ImageFolder',
        data_root=data_root,
        split='train',
        pipeline=[
            dict(type='mmfd.LoadImage'),
            dict(
                type='mmpretrain.RandomResizedCrop',
                scale=48,
                crop_ratio_range=(0.5, 1.0),
                backend='pillow'),
            dict(type='mmpretrain.RandomFlip', prob=0.5),
            dict(type='mmpretrain.PackInputs'),
        ]))
val_dataloader = dict(
    batch_size=250,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfd.ImageFolder',
        data_root=data_root,
        split='val',
        pipeline=[
            dict(type='mmfd.LoadImage'),
            dict(type='mmpretrain.Resize', scale=48, backend='pillow'),
            dict(type='mmpretrain.PackInputs'),
        ]))
test_dataloader = val_dataloader
val_cfg = test_cfg = dict()
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=1, max_keep_ckpts=1),
    throughput=dict(interval=50))
log_processor = dict(window_size=50)
