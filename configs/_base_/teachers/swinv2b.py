"""Swin V2-B of ImageNet-22K as teacher (Liu et al., arXiv 2111.09883).

Trained at 192 pixels in windows of 12. Here it sees the student's 224 in
windows of 14, its positions extrapolated from 12, so that both have 7 x 7
tokens; FD's own file has this table of coordinates as `norm8_log_192to224`.
"""
source = (
    'Download swinv2_base_patch4_window12_192_22k.pth from '
    'https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
    'swinv2_base_patch4_window12_192_22k.pth (Microsoft, MIT licence), then: '
    'python tools/convert.py swinv2 swinv2_base_patch4_window12_192_22k.pth '
    'checkpoints/swinv2b.pth')
teacher = dict(
    type='mmfd.Teacher',
    checkpoint='checkpoints/swinv2b.pth',
    source=source,
    normalize=dict(
        type='mmfd.Normalize',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375]),
    img_size=224,
    backbone=dict(
        type='mmpretrain.SwinTransformerV2',
        arch='base',
        img_size=224,
        window_size=[14, 14, 14, 7],
        pretrained_window_sizes=[12, 12, 12, 6]),
    neck=dict(type='mmfd.WhiteningNeck'))
