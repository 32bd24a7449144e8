"""Before: EsViT Swin-B itself, fine-tuned like its student: 83.9 %.

100 epochs at batch 1024. The official code has no recipe for it; this is the
student's. The relative bias tables of Swin V1 are not decayed, as in its own
code.

    python tools/train.py configs/classification/esvit_swinb_in1k.py
"""
_base_ = 'esvit_swinb_fd_in1k.py'

source = _base_.teacher.source
model = dict(
    backbone=dict(
        _base_.before,
        _delete_=True,
        drop_path_rate=_base_.model.backbone.drop_path_rate))
optim_wrapper = dict(
    paramwise_cfg=dict(
        no_decay=('absolute_pos_embed', 'relative_position_bias_table')))
