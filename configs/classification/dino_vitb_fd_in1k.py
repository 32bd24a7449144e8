"""Fine-tune the DINO ViT-B/16 FD student on ImageNet-1K: 83.8 % in the paper.

CLIP's recipe but for lr and drop path: 100 epochs at batch 2048, in the paper
16 GPUs x 128 images.

    python tools/train.py configs/classification/dino_vitb_fd_in1k.py
"""
_base_ = 'clip_vitb_fd_in1k.py'

source = 'python tools/train.py configs/fd/dino_vitb_fd.py writes it'
model = dict(
    backbone=dict(
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/dino_vitb_fd/epoch_300.pth')))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))  # per 512 images: 6e-3 at 2048
