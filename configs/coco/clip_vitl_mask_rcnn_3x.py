"""Before: CLIP ViT-L/14 itself, Mask R-CNN on COCO.

36 epochs at batch 16, 8 GPUs x 2 images: the recipe of its student, with its
own statistics and absolute positions, and attention over the whole image. The
paper has no such row.

    tools/dist_train.sh configs/coco/clip_vitl_mask_rcnn_3x.py 8
"""
_base_ = 'clip_vitl_fd_mask_rcnn_3x.py'

source = _base_.teacher.source
model = dict(
    data_preprocessor=_base_.statistics_before,
    backbone=dict(
        _base_.before, _delete_=True, **_base_.vitl14.map, img_size=1022))
optim_wrapper = dict(paramwise_cfg=dict(stem=('pre_norm', )))
