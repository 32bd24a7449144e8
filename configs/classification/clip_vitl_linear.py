"""Before: linear probe of CLIP ViT-L/14 itself on ImageNet-1K.

The feature is the cls token after the last norm, assumed as for CLIP ViT-B.
90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/clip_vitl_linear.py
"""
_base_ = 'clip_vitl_fd_linear.py'

source = _base_.teacher.source
model = dict(
    data_preprocessor=_base_.statistics_before,
    backbone=dict(_base_.before, _delete_=True, out_type='cls_token'))
