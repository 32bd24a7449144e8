"""Before: CLIP ViT-L/14 itself, UperNet on ADE20K: 53.5 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images: the recipe of its student,
with its own statistics and absolute positions.

    tools/dist_train.sh configs/ade20k/clip_vitl_ade20k.py 8
"""
_base_ = 'clip_vitl_fd_ade20k.py'

source = _base_.teacher.source
model = dict(
    data_preprocessor=_base_.statistics_before,
    backbone=dict(_base_.before, _delete_=True, **_base_.maps))
optim_wrapper = dict(paramwise_cfg=dict(stem=('pre_norm', )))
