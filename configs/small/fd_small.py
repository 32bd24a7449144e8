"""FD of a small teacher: 30 epochs of 20,000 images without labels.

    python tools/train.py configs/small/fd_small.py
"""
_base_ = [
    '../_base_/distillation.py',
    '_base_/schedule.py',
    '_base_/networks.py',
]

model = dict(
    teacher=_base_.teacher,
    normalize=_base_.teacher.normalize,
    backbone=_base_.student,
    neck=dict(in_channels=128, out_channels=128))
train_cfg = dict(type='mmfd.ResumableLoop', max_epochs=30, val_interval=30)
optim_wrapper = dict(optimizer=dict(lr=8e-3))
val_evaluator = test_evaluator = dict(type='mmfd.HeldOutLoss')
