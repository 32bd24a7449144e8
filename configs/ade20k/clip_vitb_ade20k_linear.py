"""Before: a linear layer on frozen CLIP ViT-B/16 itself, on ADE20K.

A quick look, 20,000 iterations at batch 16; the paper has no such row.

    tools/dist_train.sh configs/ade20k/clip_vitb_ade20k_linear.py 8
"""
_base_ = [
    '../_base_/linear_ade20k.py',
    '../_base_/teachers/clip_vitb16.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        _delete_=True,
        img_size=512,
        frozen_stages=12,
        final_norm=True,
        out_type='featmap',
        out_indices=[11],
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
