"""Before: CLIP ViT-B/16 itself, fine-tuned like its student: 82.9 %.

100 epochs at batch 2048. The official code has no recipe for it; this is the
student's, with CLIP's own statistics and positions, mean-pooled patches and a
new norm after the mean.

    python tools/train.py configs/classification/clip_vitb_in1k.py
"""
_base_ = 'clip_vitb_fd_in1k.py'

source = _base_.teacher.source
model = dict(
    data_preprocessor=_base_.statistics_before,
    backbone=dict(
        _base_.before,
        **_base_.pooled,
        _delete_=True,
        drop_path_rate=_base_.model.backbone.drop_path_rate))
optim_wrapper = dict(paramwise_cfg=dict(stem=('pre_norm', )))
