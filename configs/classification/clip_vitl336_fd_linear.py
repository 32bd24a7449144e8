"""Linear probe of the CLIP ViT-L/14 at 336 pixels FD student on ImageNet-1K.

90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/clip_vitl336_fd_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/students/vitl14_pooled.py',
    '../_base_/data/imagenet_linear336.py',
    '../_base_/schedules/linear_90e.py',
]

source = 'python tools/train.py configs/fd/clip_vitl336_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        img_size=336,
        drop_path_rate=0.,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/clip_vitl336_fd/epoch_300.pth',
            prefix='backbone.')),
    neck=dict(input_features=1024),
    head=dict(in_channels=1024))
