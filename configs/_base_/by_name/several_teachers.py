"""What `mmfd distill` with several teachers builds on."""
_base_ = [
    '../several_teachers.py',
    '../data/imagenet_fd.py',
    '../schedules/fd_300e.py',
]

_base_.pop('branch')  # `mmfd distill` writes them out
