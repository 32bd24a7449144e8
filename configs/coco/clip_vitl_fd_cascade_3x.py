"""Cascade Mask R-CNN on COCO with the CLIP ViT-L/14 FD student.

36 epochs with large-scale jitter at batch 16, 8 GPUs x 2 images. The paper has
no such row.

    tools/dist_train.sh configs/coco/clip_vitl_fd_cascade_3x.py 8
"""
_base_ = [
    '../_base_/dense/cascade_vit.py', '../_base_/starting_weights/clip_vitl.py'
]

model = dict(
    _base_.vitl14.detector,
    backbone=dict(
        _base_.after,
        _delete_=True,
        **_base_.vitl14.map,
        **_base_.vitl14.windows))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.8))
