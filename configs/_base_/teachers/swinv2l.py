"""Swin V2-L of ImageNet-22K as teacher, at 224 pixels as Swin V2-B."""
_base_ = 'swinv2b.py'

teacher = dict(
    checkpoint='checkpoints/swinv2l.pth',
    source=('Microsoft publishes it under the MIT licence: python tools/'
            'convert.py swinv2 https://github.com/SwinTransformer/storage/'
            'releases/download/v2.0.0/'
            'swinv2_large_patch4_window12_192_22k.pth checkpoints/'
            'swinv2l.pth'),
    backbone=dict(arch='large'))
