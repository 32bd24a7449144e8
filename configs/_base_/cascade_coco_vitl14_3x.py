"""Cascade Mask R-CNN on COCO for ViT-L/14, 36 epochs: strides of 14 pixels."""
_base_ = 'cascade_coco_vit_3x.py'

strides = [3.5, 7, 14, 28, 56]
maps = dict(featmap_strides=strides[:4])
model = dict(
    data_preprocessor=dict(pad_size_divisor=28),
    neck=dict(in_channels=1024),
    rpn_head=dict(anchor_generator=dict(strides=strides)),
    roi_head=dict(bbox_roi_extractor=maps, mask_roi_extractor=maps))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.8))
