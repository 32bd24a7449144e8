"""Before: linear probe of CLIP ViT-L/14 itself on ImageNet-1K.

Its feature is the cls token behind the last norm, assumed as for CLIP ViT-B.

    python tools/train.py configs/classification/clip_vitl_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/teachers/clip_vitl14.py',
    '../_base_/data/imagenet_linear.py',
    '../_base_/schedules/linear_90e.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        out_type='cls_token',
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)),
    neck=dict(input_features=1024),
    head=dict(in_channels=1024))
