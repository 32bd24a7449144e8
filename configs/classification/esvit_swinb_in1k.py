"""Before: EsViT Swin-B itself, fine-tuned like its student: 83.9 %.

The official code has no recipe for it; this is the student's. The relative
bias tables of Swin V1 are not decayed, as in its own code.

    python tools/train.py configs/classification/esvit_swinb_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/teachers/esvit_swinb.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_100e.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(in_channels=1024, init_cfg=dict(std=0.02)))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(
    paramwise_cfg=dict(
        layer_decay=0.8,
        no_decay=('absolute_pos_embed', 'relative_position_bias_table')))
