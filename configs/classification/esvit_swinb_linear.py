"""Before: linear probe of EsViT Swin-B itself on ImageNet-1K.

Its feature is the mean of the tokens behind the last norm, like its student's.
90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/esvit_swinb_linear.py
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/teachers/esvit_swinb.py',
    '../_base_/data/imagenet_linear.py',
    '../_base_/schedules/linear_90e.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        drop_path_rate=0.,
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(_base_.model.neck, input_features=1024),
    ],
    head=dict(in_channels=1024))
