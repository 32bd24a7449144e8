"""FD's ViT-B/16 as segmentors use it: maps of four layers, any size."""
_base_ = 'vitb16_pooled.py'

student = dict(
    img_size=512,
    drop_path_rate=0.1,
    out_type='featmap',
    out_indices=[3, 5, 7, 11])
