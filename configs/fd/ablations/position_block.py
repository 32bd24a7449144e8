"""Student positions: relative bias of each block

Table 5 of the paper: worse than one bias that all blocks share.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/fd/ablations/position_block.py
"""
_base_ = '../clip_vitb_fd_100e.py'

model = dict(
    backbone=dict(use_rel_pos_bias=True, use_shared_rel_pos_bias=False))
