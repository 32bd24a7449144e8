"""Drop path: teacher 0, student 0.2

Table 6 of the paper: 0.1 to 0.3 for the student alone is best.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/drop_path_t0_s2.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(backbone=dict(drop_path_rate=0.2))
