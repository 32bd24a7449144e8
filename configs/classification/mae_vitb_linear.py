"""Before: linear probe of MAE ViT-B/16 itself on ImageNet-1K.

Its feature is the cls token behind the last norm, as in MAE's own probe.

    python tools/train.py configs/classification/mae_vitb_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/teachers/mae_vitb16.py',
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
                      checkpoint=_base_.teacher.checkpoint)))
