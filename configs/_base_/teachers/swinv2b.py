"""Swin V2-B of ImageNet-22K as teacher (Liu et al., arXiv 2111.09883).

Trained at 192 pixels in windows of 12. Here it sees the student's 224 pixels
in windows of 14, with positions extrapolated from 12, so that both give 7 x 7
tokens; the official code calls these coordinates `norm8_log_192to224`."""
_base_ = '../statistics.py'

teacher = dict(
    type='mmfd.Teacher',
    checkpoint='checkpoints/swinv2b.pth',
    source=('Microsoft publishes it under the MIT licence: python tools/'
            'convert.py swinv2 https://github.com/SwinTransformer/storage/'
            'releases/download/v2.0.0/'
            'swinv2_base_patch4_window12_192_22k.pth checkpoints/'
            'swinv2b.pth'),
    normalize=dict(
        type='mmfd.Normalize', **_base_.pop('statistics_of').imagenet),
    img_size=224,
    backbone=dict(
        type='mmpretrain.SwinTransformerV2',
        arch='base',
        img_size=224,
        window_size=[14, 14, 14, 7],
        pretrained_window_sizes=[12, 12, 12, 6]),
    neck=dict(type='mmfd.WhiteningNeck'))
