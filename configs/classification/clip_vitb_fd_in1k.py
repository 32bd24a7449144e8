"""Fine-tune the CLIP ViT-B/16 FD student on ImageNet-1K: 84.9 % in the paper.

100 epochs at batch 2048, in the paper 16 GPUs x 128 images.

    python tools/train.py configs/classification/clip_vitb_fd_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/students/vitb16_pooled.py',
    '../_base_/data/imagenet_finetune.py',
    '../_base_/schedules/finetune_100e.py',
]

source = 'python tools/train.py configs/fd/clip_vitb_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/clip_vitb_fd/epoch_300.pth',
            prefix='backbone.')))
