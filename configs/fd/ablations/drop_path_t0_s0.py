"""Drop path: teacher 0, student 0

Table 6 of the paper: a student without noise over-fits.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/drop_path_t0_s0.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(backbone=dict(drop_path_rate=0.))
