"""FD's ViT-B/16 as detectors use it: windows of 14, as large as its table."""
_base_ = 'vitb16_pooled.py'

student = dict(
    drop_path_rate=0.1,
    out_type='featmap',
    out_indices=[11],
    window_size=14,
    global_blocks=[2, 5, 8, 11])
