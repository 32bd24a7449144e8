"""DINOv3 ViT-L/16 -> FD. Licence DINOv3 licence; not trained here."""
_base_ = '../../_base_/by_name_vitl.py'

model = dict(
    teacher=dict(
        checkpoint='checkpoints/dinov3_vitl16.safetensors',
        backbone=dict(name='vit_large_patch16_dinov3.lvd1689m')),
    backbone=dict(patch_size=16))
