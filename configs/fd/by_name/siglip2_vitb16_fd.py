"""SigLIP 2 ViT-B/16 -> FD. Licence Apache-2.0; not trained here."""
_base_ = '../../_base_/by_name_vitb.py'

model = dict(
    teacher=dict(
        checkpoint='checkpoints/siglip2_vitb16.safetensors',
        backbone=dict(name='vit_base_patch16_siglip_224.v2_webli')),
    neck=dict(tokens='map'))
