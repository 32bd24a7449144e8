"""On the way to 89.0 %: the CLIP ViT-L/14 FD student on ImageNet-22K.

The paper's row at 336 pixels had this stage between distillation and
ImageNet-1K; nothing else about it was published. Assumed is BEiT's for a ViT-L
(microsoft/unilm, `beit/README.md`): 90 epochs at 224 pixels, batch 2048, 16
GPUs x 128 images, label smoothing, RandAugment and erasing but neither mixup
nor cutmix, drop path 0.2. BEiT's rates begin and end at 1e-6 times the layer's
decay, ours at 1e-6.

Images are in data/imagenet22k/, 21,841 folders named by their WordNet ids.

    python tools/train.py configs/classification/clip_vitl_fd_in22k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/starting_weights/clip_vitl.py',
    '../_base_/data/imagenet22k_finetune.py',
    '../_base_/schedules/finetune_in22k.py',
]

classes = dict(num_classes=21841)
model = dict(
    data_preprocessor=classes,
    backbone=dict(_base_.after, **_base_.pooled, drop_path_rate=0.2),
    head=dict(classes, in_channels=1024),
    train_cfg=None)
