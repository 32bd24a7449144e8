"""Mask R-CNN on COCO for a ViT, 12 epochs: all but the backbone."""
_base_ = ['mask_rcnn_coco_swin_1x.py', 'vit_detection.py']

model = dict(neck=dict(_base_.pyramid, _delete_=True))
optim_wrapper = dict(_base_.layerwise, _delete_=True)
