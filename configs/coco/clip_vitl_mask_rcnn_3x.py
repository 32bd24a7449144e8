"""Before: CLIP ViT-L/14 itself, Mask R-CNN on COCO.

The recipe of its student, with its own statistics and absolute positions, and
attention over the whole image. The paper has no such row.

    tools/dist_train.sh configs/coco/clip_vitl_mask_rcnn_3x.py 8
"""
_base_ = [
    '../_base_/mask_rcnn_coco_vitl14_3x.py',
    '../_base_/teachers/clip_vitl14.py',
]

model = dict(
    data_preprocessor=dict(
        mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std),
    backbone=dict(
        _base_.teacher.backbone,
        _delete_=True,
        img_size=1022,
        drop_path_rate=0.4,
        final_norm=False,
        out_type='featmap',
        out_indices=[23],
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
optim_wrapper = dict(paramwise_cfg=dict(stem=('pre_norm', )))
