"""Drop path: teacher 0.1, student 0.1

Table 6 of the paper: noise in the teacher hurts.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/drop_path_t1_s1.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(teacher=dict(drop_path_rate=0.1))
