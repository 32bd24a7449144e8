"""FD's 100 epochs, the paper's for its ablations. Rates as for 300."""
_base_ = 'fd_300e.py'

train_cfg = dict(max_epochs=100)
