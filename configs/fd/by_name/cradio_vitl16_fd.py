"""C-RADIO v3 ViT-L/16 -> FD. Licence NVIDIA Open Model; not trained here."""
_base_ = '../../_base_/by_name_vitl.py'

model = dict(
    teacher=dict(
        checkpoint='checkpoints/cradio_vitl16.safetensors',
        backbone=dict(name='vit_large_patch16_radio_v3.c_radio')),
    backbone=dict(patch_size=16))
