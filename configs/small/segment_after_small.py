"""After: an FD student of a small teacher, below the same FCN.

    python tools/train.py configs/small/segment_after_small.py
"""
_base_ = '_base_/segment.py'

source = 'python tools/train.py configs/small/fd_small.py writes it'
model = dict(
    backbone=dict(
        _base_.grid,
        type='mmfd.StudentViT',
        use_rel_pos_bias=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/fd_small/epoch_30.pth',
            prefix='backbone.')))
