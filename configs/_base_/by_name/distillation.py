"""What `mmfd distill` builds on; it adds networks, images and amounts."""
_base_ = [
    '../distillation.py',
    '../data/imagenet_fd.py',
    '../schedules/fd_300e.py',
]
