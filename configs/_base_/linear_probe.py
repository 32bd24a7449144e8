"""A linear classifier on frozen features, as in the official probe."""
model = dict(
    type='mmfd.LinearProbe',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
        num_classes=1000),
    neck=dict(type='mmpretrain.ClsBatchNormNeck', input_features=768),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01)))
