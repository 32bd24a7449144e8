"""The FD student's network and the FCN, from random weights.

    python tools/train.py configs/small/segment_scratch_small.py
"""
_base_ = 'segment_after_small.py'

model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))
