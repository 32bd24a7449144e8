"""The 100 epochs of the paper's ablations; rates as in 300 epochs."""
_base_ = 'fd_300e.py'

train_cfg = dict(max_epochs=100)
