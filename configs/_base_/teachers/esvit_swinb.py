"""EsViT Swin-B, windows of 14, as teacher (Li et al., arXiv 2106.09785).

As in the official code, this is the student of EsViT's training checkpoint and
not its teacher. It gives 7 x 7 tokens and no cls token.
"""
_base_ = '../statistics.py'

teacher = dict(
    type='mmfd.Teacher',
    checkpoint='checkpoints/esvit_swinb.pth',
    source=(
        'Microsoft published it under the MIT licence; its store may '
        'be gone, and asks for the token in the README of https://'
        'github.com/microsoft/esvit at the end of the address: python '
        'tools/convert.py esvit https://chunyleu.blob.core.windows.net/'
        'output/ckpts/esvit/swin/swin_base/'
        'bl_lr0.0005_nodes4_gpu16_bs8_multicrop_epoch300_dino_aug_window14_lv/'
        'continued_from_epoch0200_dense_norm_true/checkpoint_best.pth '
        'checkpoints/esvit_swinb.pth'),
    normalize=dict(
        type='mmfd.Normalize', **_base_.pop('statistics_of').imagenet),
    img_size=224,
    backbone=dict(
        type='mmpretrain.SwinTransformer',
        arch='base',
        img_size=224,
        window_size=14,
        stage_cfgs=[dict(), dict(),
                    dict(), dict(window_size=7)]),
    neck=dict(type='mmfd.WhiteningNeck'))
