"""C-RADIO v3 ViT-B/16 -> FD. Licence NVIDIA Open Model; not trained here."""
_base_ = '../../_base_/by_name_vitb.py'

model = dict(
    teacher=dict(
        checkpoint='checkpoints/cradio_vitb16.safetensors',
        backbone=dict(name='vit_base_patch16_radio_v3.c_radio')))
