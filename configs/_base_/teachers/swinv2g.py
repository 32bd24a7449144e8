"""Swin V2-G, 3 billion parameters, as teacher (Liu et al., arXiv 2111.09883).

Pre-trained at 192 pixels in windows of 12, as the paper says, and used at 224
pixels as Swin V2-B is.
"""
_base_ = 'swinv2b.py'

teacher = dict(
    checkpoint='checkpoints/swinv2g.pth',
    source=('Microsoft has published no weights of Swin V2-G. If you have '
            'some in the names of microsoft/Swin-Transformer or of FD: python '
            'tools/convert.py swinv2 SRC checkpoints/swinv2g.pth. Swin '
            'V2-B and Swin V2-L, whose weights are published, are teachers '
            'of the same kind: configs/_base_/teachers/swinv2b.py and '
            'swinv2l.py'),
    backbone=dict(arch='giant'))
