"""A small Mask R-CNN on the shapes in COCO's layout, without its backbone."""
_base_ = [
    'maps.py', '../../_base_/dense/ops.py', '../../_base_/dense/resumable.py',
    *[
        f'{__import__("mmdet").__path__[0]}/.mim/configs/_base_/{name}.py'
        for name in ('models/mask-rcnn_r50_fpn', 'datasets/coco_instance',
                     'default_runtime', 'schedules/schedule_1x')
    ]
]

levels = dict(out_channels=48, featmap_strides=[2, 4, 8], finest_scale=6)
anchors = dict(scales=[3], ratios=[1.0], strides=[2, 4, 8, 16])
fewer = dict(sampler=dict(num=64))
model = dict(
    data_preprocessor=dict(pad_size_divisor=8),
    neck=dict(
        _delete_=True,
        type='mmfd.SimplePyramid',
        in_channels=96,
        out_channels=48,
        scales=(4, 2, 1),
        num_outs=4),
    rpn_head=dict(in_channels=48, feat_channels=48, anchor_generator=anchors),
    roi_head=dict(
        bbox_roi_extractor=levels,
        mask_roi_extractor=levels,
        bbox_head=dict(in_channels=48, fc_out_channels=128, num_classes=10),
        mask_head=dict(
            in_channels=48, conv_out_channels=32, num_convs=1,
            num_classes=10)),
    train_cfg=dict(
        rpn=fewer, rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=fewer),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=20)))
dataset = dict(
    data_root='data/shapes/coco/', metainfo=dict(classes=_base_.classes))
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(_base_.order, _delete_=True),
    dataset=dict(
        dataset,
        indices=1600,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='Resize', scale=(48, 48)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs')
        ]))
val_dataloader = test_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(
        dataset,
        indices=300,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(48, 48)),
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                           'scale_factor', 'instances'))
        ]))
# the annotation file has more images than the 300 that are evaluated
val_evaluator = test_evaluator = dict(ann_file=None)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.8),
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=25),
    dict(type='PolyLR', by_epoch=False, begin=25, end=200)
]
train_cfg = dict(_base_.loop, max_epochs=1, val_interval=1)
default_hooks = dict(checkpoint=_base_.saves)
