"""Before: linear probe of EsViT Swin-B itself on ImageNet-1K.

The feature is the mean of the tokens after the last norm, as its student's.
90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/esvit_swinb_linear.py
"""
_base_ = 'esvit_swinb_fd_linear.py'

source = _base_.teacher.source
model = dict(backbone=dict(_base_.before, _delete_=True, drop_path_rate=0.))
