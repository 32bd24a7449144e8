"""MAE ViT-B/16, its encoder as pre-trained (He et al., arXiv 2111.06377)."""
_base_ = 'dino_vitb16.py'

teacher = dict(
    checkpoint='checkpoints/mae_vitb16.pth',
    source=('Meta publishes it under the CC-BY-NC-4.0 licence, not for '
            'commercial use: python tools/convert.py mae https://'
            'dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth '
            'checkpoints/mae_vitb16.pth'))
