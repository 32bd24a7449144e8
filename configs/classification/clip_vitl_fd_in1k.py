"""Fine-tune the CLIP ViT-L/14 FD student on ImageNet-1K: 87.7 % in the paper.

50 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/classification/clip_vitl_fd_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/starting_weights/clip_vitl.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_vitl.py',
]

model = dict(
    backbone=dict(_base_.after, **_base_.pooled, drop_path_rate=0.4),
    head=dict(in_channels=1024))
