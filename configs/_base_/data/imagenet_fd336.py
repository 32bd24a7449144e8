"""ImageNet for distillation at 336 pixels, in the proportions of 224."""
_base_ = 'imagenet_fd.py'

img_size = 336
_base_.train_dataloader.dataset.pipeline[0].crop.scale = img_size
for loader in _base_.val_dataloader, _base_.test_dataloader:
    loader.dataset.pipeline[1].scale = 384  # as 256 to 224
    loader.dataset.pipeline[2].crop_size = img_size
