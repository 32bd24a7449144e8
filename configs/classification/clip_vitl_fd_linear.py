"""Linear probe of the CLIP ViT-L/14 FD student on ImageNet-1K.

90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/clip_vitl_fd_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/starting_weights/clip_vitl.py',
    '../_base_/data/imagenet_linear.py',
    '../_base_/schedules/linear.py',
]

model = dict(
    backbone=dict(_base_.after, **_base_.pooled, drop_path_rate=0.),
    neck=dict(input_features=1024),
    head=dict(in_channels=1024))
