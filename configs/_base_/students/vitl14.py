"""FD's ViT-L/14."""
_base_ = 'vitb16.py'

student = dict(arch='large', patch_size=14, drop_path_rate=0.3)
