"""FD's 100 epochs, for the paper's ablations. The rates are those of 300."""
_base_ = 'fd_300e.py'

train_cfg = dict(max_epochs=100)
