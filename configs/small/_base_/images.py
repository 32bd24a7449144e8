"""The images of `make small`, in ImageNet's layout, at 32 pixels."""
_base_ = '../../_base_/runtime.py'

data_root = 'data/small/selection'
crop = dict(
    type='mmpretrain.RandomResizedCrop',
    scale=32,
    crop_ratio_range=(0.35, 1.0),
    backend='pillow')
train_dataloader = dict(
    batch_size=128,
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
            crop,
            dict(type='mmpretrain.RandomFlip', prob=0.5),
            dict(type='mmpretrain.PackInputs'),
        ]))
val_dataloader = dict(
    batch_size=250,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfd.ImageFolder',
        data_root=data_root,
        split='val',
        pipeline=[
            dict(type='mmfd.LoadImage'),
            dict(type='mmpretrain.Resize', scale=32, backend='pillow'),
            dict(type='mmpretrain.PackInputs'),
        ]))
test_dataloader = val_dataloader
val_cfg = test_cfg = dict()
default_hooks = dict(
    logger=dict(interval=156),  # once an epoch of 20,000 images
    checkpoint=dict(interval=1, max_keep_ckpts=1, save_best=None),
    throughput=dict(interval=156))
log_processor = dict(window_size=156)
