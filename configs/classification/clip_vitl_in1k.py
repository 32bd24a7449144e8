"""Before: CLIP ViT-L/14 itself, fine-tuned like its student: 86.1 %.

50 epochs at batch 2048.

    python tools/train.py configs/classification/clip_vitl_in1k.py
"""
_base_ = 'clip_vitl_fd_in1k.py'

source = _base_.teacher.source
model = dict(
    data_preprocessor=_base_.statistics_before,
    backbone=dict(
        _base_.before,
        **_base_.pooled,
        _delete_=True,
        drop_path_rate=_base_.model.backbone.drop_path_rate))
optim_wrapper = dict(paramwise_cfg=dict(stem=('pre_norm', )))
