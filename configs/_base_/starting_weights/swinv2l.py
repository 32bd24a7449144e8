"""Swin V2-L, before and after FD: the networks that tasks start from.

Both are built of the student's blocks. Log-CPB keeps the coordinates of the
windows that it was trained in, the student's those of FD.
"""
_base_ = ['../teachers/swinv2l.py', '../students/swinv2l.py']

before = dict(
    _base_.teacher.backbone,
    type='mmfd.StudentSwin',
    init_cfg=dict(type='Pretrained', checkpoint=_base_.teacher.checkpoint))
after = dict(
    _base_.student,
    pretrained_window_sizes=[14, 14, 14, 7],
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/swinv2l_fd/epoch_300.pth',
        prefix='backbone.'))
source = 'tools/dist_train.sh configs/fd/swinv2l_fd.py writes it'
