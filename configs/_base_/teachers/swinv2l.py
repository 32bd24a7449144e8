"""Swin V2-L of ImageNet-22K as teacher: 192 pixels seen at 224, as Swin V2-B.
"""
_base_ = 'swinv2b.py'

source = (
    'Download swinv2_large_patch4_window12_192_22k.pth from '
    'https://github.com/SwinTransformer/storage/releases/download/v2.0.0/'
    'swinv2_large_patch4_window12_192_22k.pth (Microsoft, MIT licence), then: '
    'python tools/convert.py swinv2 swinv2_large_patch4_window12_192_22k.pth '
    'checkpoints/swinv2l.pth')
teacher = dict(
    checkpoint='checkpoints/swinv2l.pth',
    source=source,
    backbone=dict(arch='large'))
