"""ImageNet for distillation: crops and flips, no colour, no labels.

Where the folders have labels, evaluation uses them for kNN.
"""
_base_ = 'imagenet.py'

img_size = 224

train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(
            type='mmfd.LoadCrop',
            crop=dict(
                type='mmpretrain.RandomResizedCrop',
                scale=img_size,
                crop_ratio_range=(0.08, 1.0),
                interpolation='bilinear')),
        dict(type='mmpretrain.RandomFlip', prob=0.5),
        dict(type='mmpretrain.PackInputs'),
    ]))
val_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmfd.LoadImage'),
        dict(
            type='mmpretrain.ResizeEdge',
            scale=256,
            edge='short',
            interpolation='bilinear',
            backend='pillow'),
        dict(type='mmpretrain.CenterCrop', crop_size=img_size),
        dict(type='mmpretrain.PackInputs'),
    ]))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = [  # the first one picks the best checkpoint
    dict(type='mmfd.NearestNeighbours'),
    dict(type='mmfd.HeldOutLoss'),
]
