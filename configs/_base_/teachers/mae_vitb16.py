"""MAE ViT-B/16 as teacher (He et al., arXiv 2111.06377)."""
_base_ = 'dino_vitb16.py'

source = (
    'Download mae_pretrain_vit_base.pth from https://dl.fbaipublicfiles.com/'
    'mae/pretrain/mae_pretrain_vit_base.pth (Meta, CC BY-NC 4.0 licence), '
    'then: python tools/convert.py mae mae_pretrain_vit_base.pth '
    'checkpoints/mae_vitb16.pth')
teacher = dict(checkpoint='checkpoints/mae_vitb16.pth', source=source)
