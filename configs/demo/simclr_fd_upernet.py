"""The demo's FD student in a small UperNet.

    python tools/train.py configs/demo/simclr_fd_upernet.py
"""
_base_ = '_base_/upernet.py'

source = 'python tools/train.py configs/demo/simclr_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student_maps, _delete_=True, init_cfg=_base_.distilled))
