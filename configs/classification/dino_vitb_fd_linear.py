"""Linear probe of the DINO ViT-B/16 FD student: 76.1 % in the paper.

90 epochs at batch 16384, 16 GPUs x 1024 images.

    python tools/train.py configs/classification/dino_vitb_fd_linear.py
"""
_base_ = 'clip_vitb_fd_linear.py'

source = 'python tools/train.py configs/fd/dino_vitb_fd.py writes it'
model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='work_dirs/dino_vitb_fd/epoch_300.pth')))
