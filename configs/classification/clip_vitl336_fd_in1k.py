"""Fine-tune the student distilled at 336 pixels on ImageNet-1K, at 336 pixels.

The paper has no such row. Assumed is the recipe of 224 pixels: 50 epochs at
batch 2048, 32 GPUs x 64 images.

    python tools/train.py configs/classification/clip_vitl336_fd_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/starting_weights/clip_vitl.py',
    '../_base_/data/imagenet_finetune336.py',
    '../_base_/schedules/finetune_vitl.py',
]

source = 'python tools/train.py configs/fd/clip_vitl336_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.after,
        **_base_.pooled,
        img_size=336,
        drop_path_rate=0.4,
        init_cfg=dict(
            _base_.after.init_cfg,
            checkpoint='work_dirs/clip_vitl336_fd/epoch_300.pth')),
    head=dict(in_channels=1024))
train_dataloader = dict(batch_size=64)
