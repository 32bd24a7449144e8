"""Before: DeiT ViT-B/16 itself, fine-tuned like its student.

The paper's 81.8 % is what DeiT was published with, without this fine-tuning.

    python tools/train.py configs/classification/deit_vitb_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/teachers/deit_vitb16.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_100e.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        drop_path_rate=0.3,
        final_norm=False,
        out_type='avg_featmap',
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.65))
