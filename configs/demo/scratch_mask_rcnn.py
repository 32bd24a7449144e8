"""The FD student's network from random weights in a small Mask R-CNN.

    python tools/train.py configs/demo/scratch_mask_rcnn.py
"""
_base_ = '_base_/mask_rcnn.py'

model = dict(backbone=dict(_base_.student_maps, _delete_=True))
