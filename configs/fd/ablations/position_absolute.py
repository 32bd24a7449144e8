"""Student positions: absolute

Table 5 of the paper: worse than a shared relative bias, though FD helps here
too. One learnt embedding for each position, no relative bias. To fine-tune the
student, set `model.backbone.use_abs_pos_emb=True
model.backbone.use_rel_pos_bias=False` there.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/position_absolute.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(
    backbone=dict(use_abs_pos_emb=True, use_shared_rel_pos_bias=False))
