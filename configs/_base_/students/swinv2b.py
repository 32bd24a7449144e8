"""FD's Swin V2-B, windows of 14: log-CPB in every block, no bias table."""
statistics = dict(
    type='mmfd.Normalize',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375])
student = dict(
    type='mmfd.StudentSwin',
    arch='base',
    img_size=224,
    window_size=14,
    drop_path_rate=0.3)
