"""EsViT Swin-B, windows of 14, as teacher (Li et al., arXiv 2106.09785).

The student of its training checkpoint, as in the official code, not the
teacher. 7 x 7 tokens, without a cls token.
"""
source = (
    'Download checkpoint_best.pth of Swin-B/W=14, 300 epochs, from '
    'https://chunyleu.blob.core.windows.net/output/ckpts/esvit/swin/swin_base/'
    'bl_lr0.0005_nodes4_gpu16_bs8_multicrop_epoch300_dino_aug_window14_lv/'
    'continued_from_epoch0200_dense_norm_true/checkpoint_best.pth (Microsoft, '
    'MIT licence; where it is gone, see '
    'https://github.com/microsoft/esvit), then: python tools/convert.py esvit '
    'checkpoint_best.pth checkpoints/esvit_swinb.pth')
teacher = dict(
    type='mmfd.Teacher',
    checkpoint='checkpoints/esvit_swinb.pth',
    source=source,
    normalize=dict(
        type='mmfd.Normalize',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375]),
    img_size=224,
    backbone=dict(
        type='mmpretrain.SwinTransformer',
        arch='base',
        img_size=224,
        window_size=14,
        stage_cfgs=[dict(), dict(),
                    dict(), dict(window_size=7)]),
    neck=dict(type='mmfd.WhiteningNeck'))
