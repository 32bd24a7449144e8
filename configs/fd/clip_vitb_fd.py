"""CLIP ViT-B/16 -> FD: 82.9 -> 84.9 % on ImageNet-1K, 49.5 -> 52.8 on ADE20K.

300 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/clip_vitb_fd.py
"""
_base_ = [
    '../_base_/distillation.py',
    '../_base_/teachers/clip_vitb16.py',
    '../_base_/students/vitb16.py',
    '../_base_/data/imagenet_fd.py',
    '../_base_/schedules/fd_300e.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=_base_.student)
