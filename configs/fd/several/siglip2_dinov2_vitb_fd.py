"""SigLIP 2 ViT-B/16 and DINOv2 ViT-B/14 -> one ViT-B/16. Not trained here.

SigLIP 2 has no cls token, so its branch compares maps alone. DINOv2 sees 196
pixels, at which its patches make the student's grid of 14 x 14.

    python tools/train.py configs/fd/several/siglip2_dinov2_vitb_fd.py
"""
_base_ = [
    '../../_base_/several_teachers.py',
    '../../_base_/students/vitb16.py',
    '../../_base_/data/imagenet_fd.py',
    '../../_base_/schedules/fd_300e.py',
]

branch = _base_.pop('branch')
model = dict(
    normalize=_base_.statistics,
    backbone=_base_.student,
    branches=dict(
        siglip2=dict(
            branch,
            neck=dict(branch.neck, tokens='map'),
            teacher=dict(
                type='mmfd.Teacher',
                checkpoint='checkpoints/siglip2_vitb16.safetensors',
                backbone=dict(
                    type='mmfd.TimmNetwork',
                    name='vit_base_patch16_siglip_224.v2_webli',
                    img_size=224),
                neck=dict(type='mmfd.WhiteningNeck'))),
        dinov2=dict(
            branch,
            teacher=dict(
                type='mmfd.Teacher',
                checkpoint='checkpoints/dinov2_vitb14.safetensors',
                img_size=196,
                backbone=dict(
                    type='mmfd.TimmNetwork',
                    name='vit_base_patch14_dinov2.lvd142m',
                    img_size=196),
                neck=dict(type='mmfd.WhiteningNeck')))))
