"""Feature Distillation without its two networks."""
model = dict(
    type='mmfd.FeatureDistillation',
    data_preprocessor=dict(type='mmfd.PixelPreprocessor'),
    neck=dict(type='mmfd.ProjectionNeck', in_channels=768, out_channels=768),
    head=dict(
        type='mmfd.DistillationHead',
        loss=dict(type='torch.nn.SmoothL1Loss', beta=2.0)))
