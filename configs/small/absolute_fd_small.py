"""A control: FD into the teacher's own architecture, absolute positions.

    python tools/train.py configs/small/absolute_fd_small.py
"""
_base_ = 'fd_small.py'

model = dict(
    backbone=dict(_base_.teacher.backbone, _delete_=True, drop_path_rate=0.1))
