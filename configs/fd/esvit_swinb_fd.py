"""EsViT Swin-B -> FD: 83.9 -> 85.1 % on ImageNet-1K, 47.3 -> 48.9 on ADE20K.

300 epochs at batch 2048, in the paper 16 GPUs x 128 images. The student is a
Swin V2-B: residual norms at the end of the branch, positions by log-CPB.

    python tools/train.py configs/fd/esvit_swinb_fd.py
"""
_base_ = [
    '../_base_/distillation.py',
    '../_base_/teachers/esvit_swinb.py',
    '../_base_/students/swinv2b.py',
    '../_base_/data/imagenet_fd.py',
    '../_base_/schedules/fd_300e_swin.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=_base_.student,
    neck=dict(in_channels=1024, out_channels=1024))
