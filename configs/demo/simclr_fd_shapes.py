"""Fine-tune the demo's FD student on the ten classes of shapes.

    python tools/train.py configs/demo/simclr_fd_shapes.py
"""
_base_ = '_base_/finetune.py'

source = 'python tools/train.py configs/demo/simclr_fd.py writes it'
model = dict(
    backbone=dict(
        type='mmfd.StudentViT',
        arch=_base_.arch,
        img_size=48,
        patch_size=8,
        use_rel_pos_bias=True,
        out_type='avg_featmap',
        init_cfg=_base_.distilled))
