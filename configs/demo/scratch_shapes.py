"""The FD student's network, trained on the classes from random weights.

    python tools/train.py configs/demo/scratch_shapes.py
"""
_base_ = 'simclr_fd_shapes.py'

model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))
