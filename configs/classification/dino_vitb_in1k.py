"""Before: DINO ViT-B/16 itself, fine-tuned like its student: 82.8 %.

    python tools/train.py configs/classification/dino_vitb_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/teachers/dino_vitb16.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_100e.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        drop_path_rate=0.2,
        final_norm=False,
        out_type='avg_featmap',
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))  # per 512 images: 6e-3 at 2048
