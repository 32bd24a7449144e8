"""Normalisation: none

The paper's Table 4: worse than whitening. The teacher's last block as it is,
without even the teacher's own final norm. Teachers then differ by orders of
magnitude, and beta and learning rate would need a search for each; here they
stay.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/norm_none.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(
    teacher=dict(
        backbone=dict(final_norm=False), neck=dict(type='mmfd.PlainNeck')))
