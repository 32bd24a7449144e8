"""Mask R-CNN on COCO with the CLIP ViT-B/16 FD student.

36 epochs with large-scale jitter at batch 16, 8 GPUs x 2 images. The paper has
no such row.

    tools/dist_train.sh configs/coco/clip_vitb_fd_mask_rcnn_3x.py 8
"""
_base_ = [
    '../_base_/dense/mask_rcnn_vit.py',
    '../_base_/starting_weights/clip_vitb.py'
]

model = dict(
    backbone=dict(
        _base_.after,
        _delete_=True,
        **_base_.vitb16.map,
        **_base_.vitb16.windows))
