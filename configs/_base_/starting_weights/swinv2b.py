"""Swin V2-B, before and after FD: the networks that tasks start from.

Both are built of the student's blocks. Log-CPB keeps the coordinates of the
windows that it was trained in, the student's those of FD.
"""
_base_ = ['../teachers/swinv2b.py', '../students/swinv2b.py']

before = dict(
    _base_.teacher.backbone,
    type='mmfd.StudentSwin',
    init_cfg=dict(type='Pretrained', checkpoint=_base_.teacher.checkpoint))
after = dict(
    _base_.student,
    pretrained_window_sizes=[14, 14, 14, 7],
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/swinv2b_fd/epoch_300.pth',
        prefix='backbone.'))
source = 'tools/dist_train.sh configs/fd/swinv2b_fd.py writes it'
