"""Linear probe of the EsViT Swin-B FD student on ImageNet-1K.

Its feature is the official one: the mean of the tokens behind the last norm.
90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/esvit_swinb_fd_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/students/swinv2b.py',
    '../_base_/data/imagenet_linear.py',
    '../_base_/schedules/linear_90e.py',
]

source = 'python tools/train.py configs/fd/esvit_swinb_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        drop_path_rate=0.,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/esvit_swinb_fd/epoch_300.pth',
            prefix='backbone.')),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(_base_.model.neck, input_features=1024),
    ],
    head=dict(in_channels=1024))
