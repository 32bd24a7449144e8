"""EVA-02 ViT-B/14 -> FD. Licence MIT; not trained here."""
_base_ = '../../_base_/by_name_vitb.py'

model = dict(
    teacher=dict(
        checkpoint='checkpoints/eva02_vitb14.safetensors',
        backbone=dict(name='eva02_base_patch14_224.mim_in22k')),
    backbone=dict(patch_size=14))
