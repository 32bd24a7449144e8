"""CLIP ViT-B/16 -> FD, the short form: what the paper's ablations start from.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images. It differs from
`clip_vitb_fd.py` in length, crops and drop path, as the official one does.

    python tools/train.py configs/fd/clip_vitb_fd_100e.py
"""
_base_ = [
    '../_base_/distillation.py',
    '../_base_/teachers/clip_vitb16.py',
    '../_base_/students/vitb16.py',
    '../_base_/data/imagenet_fd_100e.py',
    '../_base_/schedules/fd_100e.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=dict(_base_.student, drop_path_rate=0.1))
