"""A linear classifier on a frozen network, as in the official probe."""
_base_ = 'statistics.py'

model = dict(
    type='mmfd.LinearProbe',
    data_preprocessor=dict(
        _base_.pop('statistics_of').imagenet,
        type='mmpretrain.ClsDataPreprocessor',
        to_rgb=True,
        num_classes=1000),
    neck=dict(type='mmpretrain.ClsBatchNormNeck', input_features=768),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01)))
