"""Before: EsViT Swin-B itself, Mask R-CNN on COCO.

The recipe of its student. The paper has no such row.

    tools/dist_train.sh configs/coco/esvit_swinb_mask_rcnn_3x.py 8
"""
_base_ = [
    '../_base_/mask_rcnn_coco_swin_3x.py',
    '../_base_/teachers/esvit_swinb.py',
]

model = dict(
    backbone=dict(
        _base_.teacher.backbone,
        _delete_=True,
        drop_path_rate=0.3,
        pad_small_map=True,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
