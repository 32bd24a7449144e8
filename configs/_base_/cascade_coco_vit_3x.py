"""Cascade Mask R-CNN on COCO for a ViT, 36 epochs with large-scale jitter."""
_base_ = 'cascade_coco_vit_1x.py'

train_dataloader = dict(dataset=dict(pipeline=_base_.jitter))
train_cfg = dict(max_epochs=36)
param_scheduler = _base_.schedule_3x
