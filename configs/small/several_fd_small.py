"""Two small teachers, of contrast and of labels, and one student of both.

    python tools/train.py configs/small/several_fd_small.py
"""
_base_ = 'fd_small.py'

branch = dict(neck=_base_.model.neck, head=_base_.model.head)
model = dict(
    _delete_=True,
    type='mmfd.MultiTeacherDistillation',
    data_preprocessor=_base_.model.data_preprocessor,
    normalize=_base_.model.normalize,
    backbone=_base_.student,
    branches=dict(
        contrast=dict(branch, teacher=_base_.teacher),
        labels=dict(
            branch,
            teacher=dict(
                _base_.teacher, checkpoint='evidence/teachers/labels.pth'))),
    balance=dict(type='mmfd.FixedWeights'))
