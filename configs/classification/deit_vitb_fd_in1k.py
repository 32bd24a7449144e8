"""Fine-tune the DeiT ViT-B/16 FD student on ImageNet-1K: 83.0 % in the paper.

CLIP's recipe but for layer decay: 100 epochs at batch 2048, in the paper 16
GPUs x 128 images.

    python tools/train.py configs/classification/deit_vitb_fd_in1k.py
"""
_base_ = 'clip_vitb_fd_in1k.py'

source = 'python tools/train.py configs/fd/deit_vitb_fd.py writes it'
model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='work_dirs/deit_vitb_fd/epoch_300.pth')))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.65))
