"""Labels: DeiT's recipe cut down to 40 epochs of 20,000 images.

    python tools/train.py configs/small/labels_teacher_small.py
"""
_base_ = '_base_/pretraining.py'

model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', num_classes=10),
    backbone=dict(out_type='cls_token', drop_path_rate=0.1),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(
            type='mmpretrain.LabelSmoothLoss',
            label_smooth_val=0.1,
            mode='original')),
    train_cfg=dict(augments=[
        dict(type='mmpretrain.Mixup', alpha=0.8),
        dict(type='mmpretrain.CutMix', alpha=1.0),
    ]))
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmfd.LoadImage'),
        _base_.crop,
        dict(type='mmpretrain.RandomFlip', prob=0.5),
        dict(
            type='mmpretrain.RandAugment',
            policies='timm_increasing',
            num_policies=2,
            total_level=10,
            magnitude_level=9,
            magnitude_std=0.5),
        dict(type='mmpretrain.PackInputs'),
    ]))
