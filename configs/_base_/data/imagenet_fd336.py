"""The images of distillation at 336 pixels, in the same proportions."""
_base_ = 'imagenet_fd.py'

img_size = 336
load, crop, *rest = _base_.train_dataloader.dataset.pipeline
train_dataloader = dict(
    dataset=dict(pipeline=[load, dict(crop, scale=img_size), *rest]))
load, resize, crop, pack = _base_.val_dataloader.dataset.pipeline
val_dataloader = test_dataloader = dict(
    dataset=dict(pipeline=[
        load,
        dict(resize, scale=384),  # as 256 to 224
        dict(crop, crop_size=img_size),
        pack
    ]))
