"""CLIP ViT-L/14 -> FD: 86.1 -> 87.7 % on ImageNet-1K, 53.5 -> 55.7 on ADE20K.

300 epochs at batch 2048, in the paper 16 GPUs x 128 images. The 89.0 % of
the paper's title row adds 336 pixels and a stage on ImageNet-22K.

    python tools/train.py configs/fd/clip_vitl_fd.py
"""
_base_ = [
    '../_base_/distillation.py',
    '../_base_/teachers/clip_vitl14.py',
    '../_base_/students/vitl14.py',
    '../_base_/data/imagenet_fd.py',
    '../_base_/schedules/fd_300e.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=_base_.student,
    neck=dict(in_channels=1024, out_channels=1024))
