"""DeiT ViT-B/16 -> FD: 81.8 -> 83.0 % on ImageNet-1K, 47.0 -> 48.0 on ADE20K.

300 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/deit_vitb_fd.py
"""
_base_ = [
    '../_base_/distillation.py',
    '../_base_/teachers/deit_vitb16.py',
    '../_base_/students/vitb16.py',
    '../_base_/data/imagenet_fd.py',
    '../_base_/schedules/fd_300e.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=dict(_base_.student, drop_path_rate=0.3))
