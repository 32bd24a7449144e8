"""Before: linear probe of DINO ViT-B/16 itself on ImageNet-1K.

The paper's 78.2 % is what DINO was published with, by a protocol of its own
and from the cls token beside the mean patch. Assumed here is the cls token
behind the last norm, and the recipe of the students.

    python tools/train.py configs/classification/dino_vitb_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/teachers/dino_vitb16.py',
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
