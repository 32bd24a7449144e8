"""The second stage of FD: the student of fd_small.py is the teacher.

    python tools/train.py configs/small/staged_fd_small.py
"""
_base_ = 'fd_small.py'

model = dict(
    teacher=dict(
        checkpoint='work_dirs/fd_small/epoch_30.pth',
        prefix='backbone.',
        source='python tools/train.py configs/small/fd_small.py writes it',
        backbone=dict(_base_.student, _delete_=True)))
