"""ImageNet-1K with labels, augmented as in the official fine-tuning."""
_base_ = ['imagenet.py', '../statistics.py']

img_size = 224
num_classes = 1000
mean, std = _base_.pop('statistics_of').imagenet.values()

train_pipeline = [
    dict(
        type='mmfd.LoadCrop',
        crop=dict(
            type='mmpretrain.RandomResizedCrop',
            scale=img_size,
            crop_ratio_range=(0.08, 1.0),
            interpolation='bicubic')),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(  # rand-m9-mstd0.5-inc1
        type='mmpretrain.RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=mean[::-1], interpolation='bicubic')),  # BGR
    dict(
        type='mmpretrain.RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=mean[::-1],
        fill_std=std[::-1]),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='mmfd.LoadImage'),
    dict(
        type='mmpretrain.ResizeEdge',
        scale=256,
        edge='short',
        interpolation='bicubic',
        backend='pillow'),
    dict(type='mmpretrain.CenterCrop', crop_size=img_size),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(dataset=dict(with_label=True, pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(
    persistent_workers=True,
    pin_memory=True,
    dataset=dict(with_label=True, pipeline=test_pipeline))
val_evaluator = test_evaluator = dict(type='mmpretrain.Accuracy', topk=1)
