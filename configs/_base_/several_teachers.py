"""Several teachers for one student: a leaf sets `branches`.

It takes `_base_.pop('branch')`, what the branch of a teacher of ViT-B's width
has beside its teacher.
"""
branch = dict(
    neck=dict(type='mmfd.ProjectionNeck', in_channels=768, out_channels=768),
    head=dict(
        type='mmfd.DistillationHead',
        loss=dict(type='torch.nn.SmoothL1Loss', beta=2.0)))
model = dict(
    type='mmfd.MultiTeacherDistillation',
    data_preprocessor=dict(type='mmfd.PixelPreprocessor'),
    balance=dict(type='mmfd.FixedWeights'))
