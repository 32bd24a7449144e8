"""Before: CLIP ViT-L/14 itself, fine-tuned like its student: 86.1 %.

    python tools/train.py configs/classification/clip_vitl_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/teachers/clip_vitl14.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_50e.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        drop_path_rate=0.4,
        final_norm=False,
        out_type='avg_featmap',
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)),
    head=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(stem=('pre_norm', )))
