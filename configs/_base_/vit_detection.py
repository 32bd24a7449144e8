"""What detectors with a ViT share: pyramid, optimizer, jitter, 36 epochs.

Of ViTDet (Li et al., arXiv 2203.16527) are pyramid, layer decay and weight
decay; lr 1e-4 at batch 16 is that of Swin's detectors, and assumed.
"""
_base_ = 'jitter.py'

pyramid = dict(type='mmfd.SimplePyramid', in_channels=768, out_channels=256)
layerwise = dict(
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.7),
    optimizer=dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1))
schedule_3x = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=1000),
    dict(
        type='MultiStepLR',
        end=36,
        by_epoch=True,
        milestones=[27, 33],
        gamma=0.1)
]
