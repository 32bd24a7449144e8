"""Fine-tune the DeiT ViT-B/16 FD student on ImageNet-1K: 83.0 % in the paper.

CLIP's recipe with another layer decay: 100 epochs at batch 2048, in the paper
16 GPUs x 128 images.

    python tools/train.py configs/classification/deit_vitb_fd_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/starting_weights/deit_vitb.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_vitb.py',
]

model = dict(backbone=dict(_base_.after, **_base_.pooled, drop_path_rate=0.3))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.65))
