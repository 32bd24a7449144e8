"""DINOv2 ViT-L/14 -> FD. Licence Apache-2.0; not trained here."""
_base_ = '../../_base_/by_name_vitl.py'

model = dict(
    teacher=dict(
        checkpoint='checkpoints/dinov2_vitl14.safetensors',
        backbone=dict(name='vit_large_patch14_dinov2.lvd142m')))
