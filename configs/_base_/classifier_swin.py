"""A classifier on the mean of a Swin's last map, as in the official code."""
_base_ = 'classifier.py'

model = dict(
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(in_channels=1024, init_cfg=dict(std=0.02)))
