"""Drop path: teacher 0, student 0.4

Table 6 of the paper: worse than 0.1 to 0.3.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/drop_path_t0_s4.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(backbone=dict(drop_path_rate=0.4))
