"""The FD student's network from random weights in a small UperNet.

    python tools/train.py configs/demo/scratch_upernet.py
"""
_base_ = '_base_/upernet.py'

model = dict(backbone=dict(_base_.student_maps, _delete_=True))
