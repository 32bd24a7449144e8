"""Images as FD's 100 epochs see them: larger crops."""
_base_ = 'imagenet_fd.py'

load, crop, *rest = _base_.train_dataloader.dataset.pipeline
train_dataloader = dict(
    dataset=dict(
        pipeline=[load, dict(crop, crop_ratio_range=(0.67, 1.0)), *rest]))
