"""Normalisation: l2

Table 4 of the paper: worse than whitening. Every token of the teacher, after
its final norm (assumed), divided by its length. Beta and learning rate are
kept.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/norm_l2.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(teacher=dict(neck=dict(type='mmfd.L2Neck')))
