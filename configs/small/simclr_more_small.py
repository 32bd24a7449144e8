"""A control: the SimCLR teacher trained on with its own loss, 15 epochs.

    python tools/train.py configs/small/simclr_more_small.py

Two views of an image are two passes, so this is as many as 30 epochs of FD.
"""
_base_ = 'simclr_teacher_small.py'

teachers = 'evidence/teachers'
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint=f'{teachers}/simclr.pth')),
    neck=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=f'{teachers}/simclr_neck.pth')))
train_cfg = dict(max_epochs=15)
