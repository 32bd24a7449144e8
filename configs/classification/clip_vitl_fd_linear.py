"""Linear probe of the CLIP ViT-L/14 FD student on ImageNet-1K.

90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/clip_vitl_fd_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/students/vitl14_pooled.py',
    '../_base_/data/imagenet_linear.py',
    '../_base_/schedules/linear_90e.py',
]

source = 'python tools/train.py configs/fd/clip_vitl_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        drop_path_rate=0.,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/clip_vitl_fd/epoch_300.pth',
            prefix='backbone.')),
    neck=dict(input_features=1024),
    head=dict(in_channels=1024))
