"""Before: a linear layer on frozen CLIP ViT-B/16 itself, on ADE20K.

A quick test, 20,000 iterations at batch 16, 8 GPUs x 2 images; the paper has
no such row.

    tools/dist_train.sh configs/ade20k/clip_vitb_ade20k_linear.py 8
"""
_base_ = 'clip_vitb_fd_ade20k_linear.py'

source = _base_.teacher.source
model = dict(
    data_preprocessor=_base_.statistics_before,
    backbone=dict(_base_.before, _delete_=True, **_base_.maps))
