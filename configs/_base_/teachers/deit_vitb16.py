"""DeiT ViT-B/16, not distilled (Touvron et al., arXiv 2012.12877)."""
_base_ = 'dino_vitb16.py'

teacher = dict(
    checkpoint='checkpoints/deit_vitb16.pth',
    source=('Meta publishes it under the Apache-2.0 licence: python tools/'
            'convert.py deit https://dl.fbaipublicfiles.com/deit/'
            'deit_base_patch16_224-b5f2ef4d.pth checkpoints/deit_vitb16.pth'))
