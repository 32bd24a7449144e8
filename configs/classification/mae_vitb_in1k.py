"""Before: MAE ViT-B/16 itself, fine-tuned like its student.

100 epochs at batch 2048. The paper's 83.6 % is MAE as it was published, after
MAE's own fine-tuning.

    python tools/train.py configs/classification/mae_vitb_in1k.py
"""
_base_ = 'mae_vitb_fd_in1k.py'

source = _base_.teacher.source
model = dict(
    backbone=dict(
        _base_.before,
        **_base_.pooled,
        _delete_=True,
        drop_path_rate=_base_.model.backbone.drop_path_rate))
