"""Linear probe of the MAE ViT-B/16 FD student on ImageNet-1K.

90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/mae_vitb_fd_linear.py
"""
_base_ = 'clip_vitb_fd_linear.py'

source = 'python tools/train.py configs/fd/mae_vitb_fd.py writes it'
model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='work_dirs/mae_vitb_fd/epoch_300.pth')))
