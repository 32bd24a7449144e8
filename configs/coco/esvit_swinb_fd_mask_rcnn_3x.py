"""Mask R-CNN on COCO with the EsViT Swin-B FD student.

36 epochs at batch 16, 8 GPUs x 2 images. The paper has no such row.

    tools/dist_train.sh configs/coco/esvit_swinb_fd_mask_rcnn_3x.py 8
"""
_base_ = [
    '../_base_/dense/mask_rcnn_swinb.py',
    '../_base_/starting_weights/esvit_swinb.py'
]

model = dict(backbone=dict(_base_.after, _delete_=True, **_base_.maps))
