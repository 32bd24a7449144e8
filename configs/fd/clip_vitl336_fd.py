"""CLIP ViT-L/14 at 336 pixels -> FD, 577 tokens on both sides.

Not a row of the paper, whose 89.0 % at 336 pixels has no published recipe and
does not say at which size it was distilled. The released student of CLIP ViT-L
was distilled at 224, so for that row we assume clip_vitl_fd.py, then
ImageNet-22K, then 336 pixels: classification/clip_vitl336_fd_in22k_in1k.py.
Here all of the distillation is at 336, from the teacher that OpenAI trained at
that size, by the recipe of clip_vitl_fd.py: 300 epochs at batch 2048, 32 GPUs
x 64 images, for about 2.4 times its cost.

    python tools/train.py configs/fd/clip_vitl336_fd.py
"""
_base_ = [
    '../_base_/distillation.py',
    '../_base_/teachers/clip_vitl14_336.py',
    '../_base_/students/vitl14.py',
    '../_base_/data/imagenet_fd336.py',
    '../_base_/schedules/fd_300e.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=dict(_base_.student, img_size=336),
    neck=dict(in_channels=1024, out_channels=1024))
train_dataloader = dict(batch_size=64)
