"""Before: the demo's SimCLR teacher itself, fine-tuned like its student.

    python tools/train.py configs/demo/simclr_shapes.py
"""
_base_ = '_base_/finetune.py'

model = dict(
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch=_base_.arch,
        img_size=48,
        patch_size=8,
        final_norm=False,
        out_type='avg_featmap',
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
