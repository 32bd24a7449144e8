r"""Swin V2-L of ImageNet-22K -> FD: what Swin V2-G's pipeline is tried on.

Its weights are public, those of Swin V2-G are not; the paper has no such row.
The published recipe of EsViT Swin-B (esvit_swinb_fd.py): 300 epochs at batch
2048, 16 GPUs x 128 images.

    tools/dist_train.sh configs/fd/swinv2l_fd.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=2
"""
_base_ = [
    '../_base_/distillation.py',
    '../_base_/teachers/swinv2l.py',
    '../_base_/students/swinv2l.py',
    '../_base_/data/imagenet_fd.py',
    '../_base_/schedules/fd_300e_swin.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=_base_.student,
    neck=dict(in_channels=1536, out_channels=1536))
