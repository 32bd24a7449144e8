"""EVA-02 ViT-L/14 -> FD. Licence MIT; not trained here."""
_base_ = '../../_base_/by_name_vitl.py'

model = dict(
    teacher=dict(
        checkpoint='checkpoints/eva02_vitl14.safetensors',
        backbone=dict(name='eva02_large_patch14_224.mim_in22k')))
