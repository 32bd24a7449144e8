"""Linear probe of the DINO ViT-B/16 FD student: 76.1 % in the paper.

90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/dino_vitb_fd_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/starting_weights/dino_vitb.py',
    '../_base_/data/imagenet_linear.py',
    '../_base_/schedules/linear.py',
]

model = dict(backbone=dict(_base_.after, **_base_.pooled, drop_path_rate=0.))
