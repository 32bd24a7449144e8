"""Normalisation: LayerNorm with affine

Table 4 of the paper: worse than whitening. The teacher's own final norm with
its learnt affine, and nothing after it.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/norm_affine.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(teacher=dict(neck=dict(type='mmfd.PlainNeck')))
