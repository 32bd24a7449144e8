"""The FD student's network, trained on the classes from random weights.

    python tools/train.py configs/small/scratch_small.py
"""
_base_ = 'after_small.py'

model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))
