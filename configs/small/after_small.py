"""After: an FD student of a small teacher, fine-tuned like its teacher.

    python tools/train.py configs/small/after_small.py
"""
_base_ = '_base_/finetune.py'

source = 'python tools/train.py configs/small/fd_small.py writes it'
model = dict(
    backbone=dict(
        _base_.grid,
        type='mmfd.StudentViT',
        use_rel_pos_bias=True,
        out_type='avg_featmap',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/fd_small/epoch_30.pth',
            prefix='backbone.')))
