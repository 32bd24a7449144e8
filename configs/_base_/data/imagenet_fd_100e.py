"""Images as the official 100 epochs see them: crops of two thirds and more."""
_base_ = 'imagenet_fd.py'

_base_.train_dataloader.dataset.pipeline[1].crop_ratio_range = (0.67, 1.0)
