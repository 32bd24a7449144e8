"""BEiT's fine-tuning of ViT-L on ImageNet-22K. Rates per 512 images.

microsoft/unilm `beit/README.md`: batch 2048, lr 2e-3, 5 epochs of warm-up
from 1e-6, layer decay 0.75, weight decay 0.05, gradients clipped at 1.
"""
_base_ = 'finetune_vitb.py'

train_cfg = dict(max_epochs=90)
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay=0.75),
    optimizer=dict(lr=5e-4),  # per 512 images: 2e-3 at 2048
    clip_grad=dict(max_norm=1.0))
default_hooks = dict(param_scheduler=dict(warmup_epochs=5))
