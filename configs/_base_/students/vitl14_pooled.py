"""FD's ViT-L/14 as classifiers use it."""
_base_ = 'vitb16_pooled.py'

student = dict(arch='large', patch_size=14)
