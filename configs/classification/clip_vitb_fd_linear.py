"""Linear probe of the CLIP ViT-B/16 FD student on ImageNet-1K.

Its feature is the official one: the mean of the patches before the last norm,
then a norm without affine: `ln2`, fresh and frozen. 90 epochs at batch 16384,
16 GPUs x 1024 images.

    python tools/train.py configs/classification/clip_vitb_fd_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/students/vitb16_pooled.py',
    '../_base_/data/imagenet_linear.py',
    '../_base_/schedules/linear_90e.py',
]

source = 'python tools/train.py configs/fd/clip_vitb_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        drop_path_rate=0.,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/clip_vitb_fd/epoch_300.pth',
            prefix='backbone.')))
