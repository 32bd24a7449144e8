"""Before: a small teacher itself, below a small FCN on street scenes.

    python tools/train.py configs/small/segment_before_small.py
"""
_base_ = '_base_/segment.py'

model = dict(
    backbone=dict(
        _base_.grid,
        type='mmpretrain.VisionTransformer',
        final_norm=False,
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
