"""ImageNet-1K with labels, cropped as in the official linear probe."""
_base_ = 'imagenet_finetune.py'

train_pipeline = [
    dict(
        type='mmfd.LoadCrop',
        crop=dict(
            type='mmfd.ClampedCrop',
            scale=_base_.img_size,
            crop_ratio_range=(0.08, 1.0),
            interpolation='bicubic')),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(batch_size=1024, dataset=dict(pipeline=train_pipeline))
