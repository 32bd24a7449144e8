"""HTC on COCO with Swin V2-G, after HTC++.

The paper names HTC++ after detection on Objects365, and publishes no recipe.
Assumed, on mmdet's stock HTC without semantic maps: crops of 1024 pixels with
large-scale jitter, 12 epochs, AdamW of lr 1e-4 with layer decay 0.9, soft-NMS.
"""
_base_ = [
    'ops.py', 'swin.py', 'jitter.py', 'tta.py',
    f'{__import__("mmdet").__path__[0]}/.mim/configs/htc/'
    'htc-without-semantic_r50_fpn_1x_coco.py'
]

model = dict(
    neck=dict(in_channels=[512, 1024, 2048, 4096]),
    test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms'))))
train_dataloader = dict(dataset=dict(pipeline=_base_.jitter))
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.9),
    optimizer=dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05))
