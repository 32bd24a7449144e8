"""HTC on COCO for Swin V2-G, after HTC++: all but the backbone.

The paper names HTC++ after detection on Objects365, and publishes no recipe.
Assumed, on the stock HTC without semantic maps of mmdet: crops of 1024 pixels
with large-scale jitter, 1x, AdamW of lr 1e-4 with layer decay 0.9, soft-NMS.
"""
_base_ = (f'{__import__("mmdet").__path__[0]}/.mim/configs/htc/'
          'htc-without-semantic_r50_fpn_1x_coco.py')

custom_imports = dict(imports=['mmfd.ops'], allow_failed_imports=False)
image_size = (1024, 1024)
model = dict(
    neck=dict(in_channels=[512, 1024, 2048, 4096]),
    test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms'))))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomResize',
        scale=image_size,
        ratio_range=(0.1, 2.0),
        keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute_range',
        crop_size=image_size,
        recompute_bbox=True,
        allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.9),
    optimizer=dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05))
model_wrapper_cfg = dict(type='mmfd.FullySharded', param_dtype='bfloat16')
