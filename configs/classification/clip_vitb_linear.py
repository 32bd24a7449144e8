"""Before: linear probe of CLIP ViT-B/16 itself on ImageNet-1K.

Assumed, as the official code has no probe of a teacher: the feature is the cls
token after the last norm, from which CLIP's own projection reads. 90 epochs at
batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/clip_vitb_linear.py
"""
_base_ = 'clip_vitb_fd_linear.py'

source = _base_.teacher.source
model = dict(
    data_preprocessor=_base_.statistics_before,
    backbone=dict(_base_.before, _delete_=True, out_type='cls_token'))
