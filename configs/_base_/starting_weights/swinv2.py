"""What tasks change in a Swin V2 when they start from it.

Both networks are built of the student's blocks: mmpretrain's drop a branch
before the norm that ends it. Log-CPB keeps the coordinates of the windows that
it was trained in, the student's those of FD.
"""
blocks = dict(type='mmfd.StudentSwin')
trained_windows = dict(pretrained_window_sizes=[14, 14, 14, 7])
