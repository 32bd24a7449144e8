"""FD's Swin V2-G as segmentors and detectors use it: four stages, any size."""
_base_ = 'swinv2g.py'

student = dict(pad_small_map=True, out_indices=(0, 1, 2, 3))
