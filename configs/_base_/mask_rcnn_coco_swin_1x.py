"""Mask R-CNN on COCO by Swin's 1x recipe: all but the backbone.

The stock file of mmdet: 12 epochs at batch 16, lr 1e-4, 1333 x 800 pixels.
"""
_base_ = (f'{__import__("mmdet").__path__[0]}/.mim/configs/swin/'
          'mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py')

custom_imports = dict(imports=['mmfd.hosts.mmcv_ops'], allow_failed_imports=False)
model = dict(neck=dict(in_channels=[128, 256, 512, 1024]))
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            cpb_mlp=dict(decay_mult=0.), logit_scale=dict(decay_mult=0.))))
