"""From ImageNet-22K to ImageNet-1K at 336 pixels: 89.0 % in the paper.

No recipe was published. Assumed is BEiT's for a ViT-L after its ImageNet-22K
(microsoft/unilm, `beit/get_started_for_image_classification.md`): 30 epochs at
batch 512, 16 GPUs x 32 images, neither mixup nor cutmix, drop path 0.4, the
norm after the mean kept, a new head. The relative bias goes from 16 x 16 to
24 x 24 patches by the official geometric interpolation.

    python tools/train.py configs/classification/clip_vitl336_fd_in22k_in1k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/starting_weights/clip_vitl.py',
    '../_base_/data/imagenet_finetune336.py',
    '../_base_/schedules/finetune_after_in22k.py',
]

source = ('python tools/train.py '
          'configs/classification/clip_vitl_fd_in22k.py writes it')
model = dict(
    backbone=dict(
        _base_.after,
        **_base_.pooled,
        img_size=336,
        drop_path_rate=0.4,
        init_cfg=dict(
            _base_.after.init_cfg,
            checkpoint='work_dirs/clip_vitl_fd_in22k/epoch_90.pth')),
    head=dict(in_channels=1024),
    train_cfg=None)
train_dataloader = dict(batch_size=32)
