"""Linear probe of the CLIP ViT-B/16 FD student on ImageNet-1K.

Its feature is the official one: the mean of the patches before the last norm,
then a norm without affine, which is `ln2`, new and frozen. 90 epochs at batch
16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/clip_vitb_fd_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/starting_weights/clip_vitb.py',
    '../_base_/data/imagenet_linear.py',
    '../_base_/schedules/linear.py',
]

model = dict(backbone=dict(_base_.after, **_base_.pooled, drop_path_rate=0.))
