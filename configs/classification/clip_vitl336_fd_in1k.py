"""Fine-tune the student distilled at 336 pixels on ImageNet-1K, at 336 pixels.

The paper has no such row. Assumed is the recipe of 224 pixels: 50 epochs at
batch 2048, 32 GPUs x 64 images.

    python tools/train.py configs/classification/clip_vitl336_fd_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/students/vitl14_pooled.py',
    '../_base_/data/imagenet_finetune336.py',
    '../_base_/schedules/finetune_50e.py',
]

source = 'python tools/train.py configs/fd/clip_vitl336_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        img_size=336,
        drop_path_rate=0.4,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/clip_vitl336_fd/epoch_300.pth',
            prefix='backbone.')),
    head=dict(in_channels=1024))
train_dataloader = dict(batch_size=64)
