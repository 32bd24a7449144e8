"""Linear probe of the EsViT Swin-B FD student on ImageNet-1K.

Its feature is the official one: the mean of the tokens after the last norm.
90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/esvit_swinb_fd_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/starting_weights/esvit_swinb.py',
    '../_base_/data/imagenet_linear.py',
    '../_base_/schedules/linear.py',
]

model = dict(
    backbone=dict(_base_.after, drop_path_rate=0.),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(_base_.model.neck, input_features=1024),
    ],
    head=dict(in_channels=1024))
