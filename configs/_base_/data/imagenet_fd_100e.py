"""ImageNet for the official 100 epochs: crops of two thirds or more."""
_base_ = 'imagenet_fd.py'

pipeline = _base_.train_dataloader.dataset.pipeline
pipeline[0].crop.crop_ratio_range = (0.67, 1.0)
