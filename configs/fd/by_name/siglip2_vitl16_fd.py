"""SigLIP 2 ViT-L/16 -> FD. Licence Apache-2.0; not trained here."""
_base_ = '../../_base_/by_name_vitl.py'

model = dict(
    teacher=dict(
        checkpoint='checkpoints/siglip2_vitl16.safetensors',
        backbone=dict(name='vit_large_patch16_siglip_256.v2_webli')),
    backbone=dict(patch_size=16),
    neck=dict(tokens='map'))
