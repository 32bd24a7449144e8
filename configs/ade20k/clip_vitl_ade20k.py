"""Before: CLIP ViT-L/14 itself, UperNet on ADE20K: 53.5 mIoU in the paper.

The recipe of its student, with its own statistics and absolute positions.

    tools/dist_train.sh configs/ade20k/clip_vitl_ade20k.py 8
"""
_base_ = [
    '../_base_/upernet_ade20k_vitl14.py',
    '../_base_/teachers/clip_vitl14.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        _delete_=True,
        img_size=504,
        drop_path_rate=0.2,
        final_norm=False,
        out_type='featmap',
        out_indices=[7, 11, 15, 23],
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
optim_wrapper = dict(paramwise_cfg=dict(stem=('pre_norm', )))
