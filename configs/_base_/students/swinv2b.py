"""FD's Swin V2-B, windows of 14: log-CPB in every block, no bias table."""
_base_ = '../statistics.py'

statistics = dict(
    type='mmfd.Normalize', **_base_.pop('statistics_of').imagenet)
student = dict(
    type='mmfd.StudentSwin',
    arch='base',
    img_size=224,
    window_size=14,
    drop_path_rate=0.3)
