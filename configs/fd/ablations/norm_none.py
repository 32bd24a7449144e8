"""Normalisation: none

Table 4 of the paper: worse than whitening. The output of the teacher's last
block, without even its own final norm. Teachers then differ by orders of
magnitude, and each would need its own search for beta and learning rate; here
both are kept.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/norm_none.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(
    teacher=dict(
        backbone=dict(final_norm=False), neck=dict(type='mmfd.PlainNeck')))
