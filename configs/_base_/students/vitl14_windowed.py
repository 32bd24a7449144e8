"""FD's ViT-L/14 as detectors use it: windows of 16, as large as its table."""
_base_ = 'vitl14_pooled.py'

student = dict(
    drop_path_rate=0.4,
    out_type='featmap',
    out_indices=[23],
    window_size=16,
    global_blocks=[5, 11, 17, 23])
