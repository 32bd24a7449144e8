"""Before: DINO ViT-B/16 itself, fine-tuned like its student: 82.8 %.

100 epochs at batch 2048.

    python tools/train.py configs/classification/dino_vitb_in1k.py
"""
_base_ = 'dino_vitb_fd_in1k.py'

source = _base_.teacher.source
model = dict(
    backbone=dict(
        _base_.before,
        **_base_.pooled,
        _delete_=True,
        drop_path_rate=_base_.model.backbone.drop_path_rate))
