"""FD's Swin V2-B as segmentors and detectors use it: four stages, any size."""
_base_ = 'swinv2b.py'

student = dict(pad_small_map=True, out_indices=(0, 1, 2, 3))
