"""Before: DeiT ViT-B/16 itself, fine-tuned like its student.

100 epochs at batch 2048. The paper's 81.8 % is DeiT as it was published,
without this fine-tuning.

    python tools/train.py configs/classification/deit_vitb_in1k.py
"""
_base_ = 'deit_vitb_fd_in1k.py'

source = _base_.teacher.source
model = dict(
    backbone=dict(
        _base_.before,
        **_base_.pooled,
        _delete_=True,
        drop_path_rate=_base_.model.backbone.drop_path_rate))
