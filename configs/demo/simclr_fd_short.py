"""FD: as published

The demo's distillation in half the time, for its ablations: `make
demo-ablations` applies each file of `configs/fd/ablations/` to this one.

    python tools/train.py configs/demo/simclr_fd_short.py
"""
_base_ = 'simclr_fd.py'

classifier = dict(  # SimCLR has none: `make demo-ablations` fits this one
    checkpoint='work_dirs/ablations/classifier.pth',
    in_channels=96,
    num_classes=10)
train_cfg = dict(max_epochs=2, val_interval=2)
