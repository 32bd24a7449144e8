"""Before: CLIP ViT-B/16 itself, Cascade Mask R-CNN on COCO.

36 epochs at batch 16, 8 GPUs x 2 images: the recipe of its student, with its
own statistics and absolute positions, and attention over the whole image. The
paper has no such row.

    tools/dist_train.sh configs/coco/clip_vitb_cascade_3x.py 8
"""
_base_ = 'clip_vitb_fd_cascade_3x.py'

source = _base_.teacher.source
model = dict(
    data_preprocessor=_base_.statistics_before,
    backbone=dict(
        _base_.before, _delete_=True, **_base_.vitb16.map, img_size=1024))
optim_wrapper = dict(paramwise_cfg=dict(stem=('pre_norm', )))
