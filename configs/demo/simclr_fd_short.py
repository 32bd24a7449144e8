"""FD: as published

The demo's distillation in half the time: where its ablations start. `make
demo-ablations` makes the change of each file in `configs/fd/ablations/` to
this one.

    python tools/train.py configs/demo/simclr_fd_short.py
"""
_base_ = 'simclr_fd.py'

classifier = dict(  # fitted by `make demo-ablations`: SimCLR has none
    checkpoint='work_dirs/ablations/classifier.pth',
    in_channels=96,
    num_classes=10)
train_cfg = dict(max_epochs=2, val_interval=2)
