"""FD of a ViT-L from a teacher of its size that a leaf names."""
_base_ = [
    'distillation.py',
    'teacher_by_name.py',
    'students/vitl14.py',
    'data/imagenet_fd.py',
    'schedules/fd_300e.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.statistics,
    backbone=_base_.student,
    neck=dict(in_channels=1024, out_channels=1024))
