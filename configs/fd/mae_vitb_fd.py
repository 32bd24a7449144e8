"""MAE ViT-B/16 -> FD: 83.6 -> 83.8 % on ImageNet-1K, the paper's control.

A teacher trained by masked image modelling gains almost nothing. Its recipe
was not published; assumed is that of DINO and DeiT: 300 epochs at batch 2048.

    python tools/train.py configs/fd/mae_vitb_fd.py
"""
_base_ = [
    '../_base_/distillation.py',
    '../_base_/teachers/mae_vitb16.py',
    '../_base_/students/vitb16.py',
    '../_base_/data/imagenet_fd.py',
    '../_base_/schedules/fd_300e.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=dict(_base_.student, drop_path_rate=0.3))
