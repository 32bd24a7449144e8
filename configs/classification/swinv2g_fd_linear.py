r"""Linear probe of the Swin V2-G FD student on ImageNet-1K.

90 epochs at batch 16384, 16 GPUs x 1024 images, as EsViT's.

    tools/dist_train.sh configs/classification/swinv2g_fd_linear.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=2
"""
_base_ = 'esvit_swinb_fd_linear.py'

source = 'tools/dist_train.sh configs/fd/swinv2g_fd.py writes it'
model = dict(
    backbone=dict(
        arch='giant',
        init_cfg=dict(checkpoint='work_dirs/swinv2g_fd/epoch_300.pth')),
    neck=[
        dict(type='mmpretrain.GlobalAveragePooling'),
        dict(type='mmpretrain.ClsBatchNormNeck', input_features=4096),
    ],
    head=dict(in_channels=4096))
model_wrapper_cfg = dict(type='mmfd.FullySharded', param_dtype='bfloat16')
