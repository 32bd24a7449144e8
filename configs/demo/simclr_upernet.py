"""Before: the demo's SimCLR teacher itself in a small UperNet.

    python tools/train.py configs/demo/simclr_upernet.py
"""
_base_ = '_base_/upernet.py'

model = dict(backbone=dict(_base_.teacher_maps, _delete_=True))
