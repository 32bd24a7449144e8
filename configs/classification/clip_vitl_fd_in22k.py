"""On the way to 89.0 %: the CLIP ViT-L/14 FD student on ImageNet-22K.

The paper's row at 336 pixels had this stage between distillation and
ImageNet-1K; nothing else of it was published. Assumed is BEiT's for a ViT-L
(microsoft/unilm, `beit/README.md`): 90 epochs at 224 pixels, batch 2048, label
smoothing, RandAugment and erasing but neither mixup nor cutmix, drop path 0.2.
Its rates begin and end at 1e-6 times the layer's decay, ours at 1e-6.

Images are in data/imagenet22k/, 21,841 folders named by their WordNet ids.

    python tools/train.py configs/classification/clip_vitl_fd_in22k.py
"""
_base_ = [
    '../_base_/classifier.py',
    '../_base_/students/vitl14_pooled.py',
    '../_base_/data/imagenet22k_finetune.py',
    '../_base_/schedules/finetune_in22k_90e.py',
]

source = 'python tools/train.py configs/fd/clip_vitl_fd.py writes it'
model = dict(
    data_preprocessor=dict(num_classes=21841),
    backbone=dict(
        _base_.student,
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/clip_vitl_fd/epoch_300.pth',
            prefix='backbone.')),
    head=dict(in_channels=1024, num_classes=21841),
    train_cfg=None)
