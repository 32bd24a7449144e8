"""A classifier, trained with mixup and cutmix as in the official code."""
_base_ = 'statistics.py'

model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        _base_.pop('statistics_of').imagenet,
        type='mmpretrain.ClsDataPreprocessor',
        to_rgb=True,
        num_classes=1000),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(
            type='mmpretrain.LabelSmoothLoss',
            label_smooth_val=0.1,
            mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5)),
    train_cfg=dict(augments=[
        dict(type='mmpretrain.Mixup', alpha=0.8),
        dict(type='mmpretrain.CutMix', alpha=1.0),
    ]))
