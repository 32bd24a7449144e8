"""Fine-tune the CLIP ViT-B/16 FD student on ImageNet-1K: 84.9 % in the paper.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/classification/clip_vitb_fd_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/starting_weights/clip_vitb.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_vitb.py',
]

model = dict(backbone=dict(_base_.after, **_base_.pooled, drop_path_rate=0.3))
