"""Fine-tune the CLIP ViT-B/16 student of 100 epochs on ImageNet-1K.

The official recipe, whose accuracy is not published: drop path 0.1, layer
decay 0.65, else as after 300 epochs. 100 epochs at batch 2048, in the paper 16
GPUs x 128 images.

    python tools/train.py configs/classification/clip_vitb_fd_100e_in1k.py
"""
_base_ = 'clip_vitb_fd_in1k.py'

source = 'python tools/train.py configs/fd/clip_vitb_fd_100e.py writes it'
model = dict(
    backbone=dict(
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/clip_vitb_fd_100e/epoch_100.pth')))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.65))
