"""Before: the demo's SimCLR teacher itself in a small Mask R-CNN.

    python tools/train.py configs/demo/simclr_mask_rcnn.py
"""
_base_ = '_base_/mask_rcnn.py'

model = dict(backbone=dict(_base_.teacher_maps, _delete_=True))
