"""FD's ViT-L/14 as segmentors use it: maps of four layers, any size."""
_base_ = 'vitl14_pooled.py'

student = dict(
    img_size=504,
    drop_path_rate=0.2,
    out_type='featmap',
    out_indices=[7, 11, 15, 23])
