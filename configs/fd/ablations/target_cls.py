"""Target: cls token

Table 3 of the paper: worse than the whole feature map. Both sides give their
cls token alone, whitened and projected as the map is.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/target_cls.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(teacher=dict(neck=dict(tokens='cls')), neck=dict(tokens='cls'))
