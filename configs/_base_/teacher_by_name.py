"""A teacher by its name in timm: a leaf sets `backbone.name` and its file.

Statistics and tokens are those that timm says; see docs/teachers.md.
"""
teacher = dict(
    type='mmfd.Teacher',
    backbone=dict(type='mmfd.TimmNetwork', img_size=224),
    neck=dict(type='mmfd.WhiteningNeck'))
