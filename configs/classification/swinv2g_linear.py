r"""Before: linear probe of Swin V2-G itself on ImageNet-1K.

90 epochs at batch 16384, 16 GPUs x 1024 images. No weights are published.

    tools/dist_train.sh configs/classification/swinv2g_linear.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=2
"""
_base_ = [
    '../_base_/linear_probe.py',
    '../_base_/teachers/swinv2g.py',
    '../_base_/data/imagenet_linear.py',
    '../_base_/schedules/linear_90e.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        type='mmfd.StudentSwin',
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(_base_.model.neck, input_features=4096),
    ],
    head=dict(in_channels=4096))
model_wrapper_cfg = dict(type='mmfd.FullySharded', param_dtype='bfloat16')
