"""Fine-tune the DINO ViT-B/16 FD student on ImageNet-1K: 83.8 % in the paper.

CLIP's recipe with another lr and drop path: 100 epochs at batch 2048, in the
paper 16 GPUs x 128 images.

    python tools/train.py configs/classification/dino_vitb_fd_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/starting_weights/dino_vitb.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_vitb.py',
]

model = dict(backbone=dict(_base_.after, **_base_.pooled, drop_path_rate=0.2))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))  # per 512 images: 6e-3 at 2048
