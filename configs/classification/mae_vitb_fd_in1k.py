"""Fine-tune the MAE ViT-B/16 FD student on ImageNet-1K: 83.8 % in the paper.

Assumed is DeiT's recipe, as none was published: 100 epochs at batch 2048.

    python tools/train.py configs/classification/mae_vitb_fd_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/starting_weights/mae_vitb.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_vitb.py',
]

model = dict(backbone=dict(_base_.after, **_base_.pooled, drop_path_rate=0.3))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.65))
