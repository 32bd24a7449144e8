"""Cascade Mask R-CNN on COCO with a Swin-B, by Swin's recipe.

mmdet's stock file of ConvNeXt, which has that recipe: heads of four
convolutions, GIoU, 36 epochs at batch 16, several scales. Swin's lr of 1e-4,
without layer decay.
"""
_base_ = [
    'swin.py', 'tta.py', 'resumable.py',
    f'{__import__("mmdet").__path__[0]}/.mim/configs/convnext/'
    'cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_'
    'coco.py'
]

custom_imports = dict(imports=['mmfd.hosts.mmcv_ops'])  # replaces the list
model = dict(neck=dict(in_channels=[128, 256, 512, 1024]))
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys=dict(
            _base_.undecayed,
            relative_position_bias_table=dict(decay_mult=0.),
            norm=dict(decay_mult=0.))))
train_dataloader = dict(sampler=dict(_base_.order, _delete_=True))
train_cfg = _base_.loop
default_hooks = dict(checkpoint=_base_.saves)
