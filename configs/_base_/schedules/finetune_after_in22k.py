"""BEiT's fine-tuning of ViT-L after ImageNet-22K. Rates per 512 images.

microsoft/unilm `beit/get_started_for_image_classification.md`: batch 512,
lr 2e-5, layer decay 0.9, hardly any weight decay, no clipping.
"""
_base_ = 'finetune_vitb.py'

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay=0.9),
    optimizer=dict(lr=2e-5, weight_decay=1e-8),
    clip_grad=None)
default_hooks = dict(
    param_scheduler=dict(warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-6))
