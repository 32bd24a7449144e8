"""Before: CLIP ViT-B/16 itself, UperNet on ADE20K: 49.5 mIoU in the paper.

The recipe of its student, with its own statistics and absolute positions.

    tools/dist_train.sh configs/ade20k/clip_vitb_ade20k.py 8
"""
_base_ = [
    '../_base_/upernet_ade20k.py',
    '../_base_/teachers/clip_vitb16.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        _delete_=True,
        img_size=512,
        drop_path_rate=0.1,
        final_norm=False,
        out_type='featmap',
        out_indices=[3, 5, 7, 11],
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
optim_wrapper = dict(paramwise_cfg=dict(stem=('pre_norm', )))
