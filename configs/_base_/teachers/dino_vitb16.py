"""DINO ViT-B/16 as teacher (Caron et al., arXiv 2104.14294)."""
_base_ = '../statistics.py'

teacher = dict(
    type='mmfd.Teacher',
    checkpoint='checkpoints/dino_vitb16.pth',
    source=('Meta publishes it under the Apache-2.0 licence: python tools/'
            'convert.py dino https://dl.fbaipublicfiles.com/dino/'
            'dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth '
            'checkpoints/dino_vitb16.pth'),
    normalize=dict(
        type='mmfd.Normalize', **_base_.pop('statistics_of').imagenet),
    img_size=224,
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        norm_cfg=dict(type='LN', eps=1e-6),
        out_type='raw'),
    neck=dict(type='mmfd.WhiteningNeck'))
