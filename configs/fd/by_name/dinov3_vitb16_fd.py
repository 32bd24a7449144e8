"""DINOv3 ViT-B/16 -> FD. Licence DINOv3 licence; not trained here."""
_base_ = '../../_base_/by_name_vitb.py'

model = dict(
    teacher=dict(
        checkpoint='checkpoints/dinov3_vitb16.safetensors',
        backbone=dict(name='vit_base_patch16_dinov3.lvd1689m')))
