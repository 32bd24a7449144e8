"""A small UperNet on the shapes in ADE20K's layout, without its backbone."""
_base_ = [
    'maps.py', '../../_base_/dense/ops.py', '../../_base_/dense/resumable.py',
    *[
        f'{__import__("mmseg").__path__[0]}/.mim/configs/_base_/{name}.py'
        for name in ('models/upernet_beit', 'default_runtime',
                     'schedules/schedule_160k')
    ]
]

heads = dict(num_classes=10, channels=32, norm_cfg=dict(type='BN'))
model = dict(
    data_preprocessor=dict(size=(48, 48)),
    neck=dict(embed_dim=96, rescales=[2, 1, 0.5, 0.25]),  # strides 4 to 32
    decode_head=dict(in_channels=[96] * 4, pool_scales=(1, 2, 3), **heads),
    auxiliary_head=dict(in_channels=96, **heads))
dataset = dict(
    type='BaseSegDataset',
    data_root='data/shapes/ade',
    reduce_zero_label=True,  # background is no class, as in ADE20K
    metainfo=dict(
        classes=_base_.classes, palette=[[25 * i] * 3 for i in range(10)]),
    img_suffix='.jpg',
    seg_map_suffix='.png')
image = dict(type='LoadImageFromFile')
labels = dict(type='LoadAnnotations', reduce_zero_label=True)
smaller = dict(type='Resize', scale=(48, 48))
pack = [dict(type='PackSegInputs')]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        dataset,
        data_prefix=dict(
            img_path='images/training', seg_map_path='annotations/training'),
        pipeline=[
            image, labels, smaller,
            dict(type='RandomFlip', prob=0.5), *pack
        ]))
val_dataloader = test_dataloader = dict(
    batch_size=25,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        dataset,
        indices=500,
        data_prefix=dict(
            img_path='images/validation',
            seg_map_path='annotations/validation'),
        pipeline=[image, smaller, labels, *pack]))
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.8),
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05))
iterations = 250
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=25),
    dict(type='PolyLR', by_epoch=False, begin=25, end=iterations)
]
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(_base_.saves, interval=iterations))
