"""Before: a small teacher itself, fine-tuned on ten classes.

    python tools/train.py configs/small/before_small.py
"""
_base_ = '_base_/finetune.py'

model = dict(
    backbone=dict(
        _base_.grid,
        type='mmpretrain.VisionTransformer',
        final_norm=False,
        out_type='avg_featmap',
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
