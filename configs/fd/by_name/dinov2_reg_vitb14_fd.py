"""DINOv2 ViT-B/14, registers -> FD. Licence Apache-2.0; not trained here."""
_base_ = '../../_base_/by_name_vitb.py'

model = dict(
    teacher=dict(
        checkpoint='checkpoints/dinov2_reg_vitb14.safetensors',
        backbone=dict(name='vit_base_patch14_reg4_dinov2.lvd142m')),
    backbone=dict(patch_size=14))
