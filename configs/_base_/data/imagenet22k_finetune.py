"""ImageNet-22K: 21,841 folders of images in `data_root`.

It has no validation set: `mmfd.ImageFolder` holds out one image in a thousand,
chosen by a hash of its path.
"""
_base_ = 'imagenet_finetune.py'

data_root = 'data/imagenet22k'
dataset = dict(data_root=data_root, held_out=0.001)
train_dataloader = dict(dataset=dataset)
val_dataloader = test_dataloader = dict(dataset=dataset)
