"""Cascade Mask R-CNN on COCO with a ViT: 36 epochs with large-scale jitter."""
_base_ = ['cascade_swinb.py', 'vitdet.py']

model = dict(neck=dict(_base_.pyramid, _delete_=True))
train_dataloader = dict(dataset=dict(pipeline=_base_.jitter))
optim_wrapper = dict(_base_.layerwise, _delete_=True)
