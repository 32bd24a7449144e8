"""The demo's distillation run to its end: 40 epochs instead of 4.

    python tools/train.py configs/demo/simclr_fd_finished.py

Nothing else differs. `make demo-student` runs it and writes `student.pth`,
which is part of the project.
"""
_base_ = 'simclr_fd.py'

train_cfg = dict(max_epochs=40, val_interval=10)
