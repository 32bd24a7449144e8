"""Mask R-CNN on COCO with a Swin-B, by Swin's recipe.

The stock file of mmdet: 36 epochs at batch 16, lr 1e-4, several scales.
"""
_base_ = [
    'ops.py', 'swin.py', 'tta.py', 'resumable.py',
    f'{__import__("mmdet").__path__[0]}/.mim/configs/'
    'swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py'
]

model = dict(neck=dict(in_channels=[128, 256, 512, 1024]))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.undecayed))
train_dataloader = dict(sampler=dict(_base_.order, _delete_=True))
train_cfg = _base_.loop
default_hooks = dict(checkpoint=_base_.saves)
