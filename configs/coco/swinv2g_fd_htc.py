"""HTC on COCO with the Swin V2-G FD student: 64.2 box AP in the paper.

And 55.4 mask AP; both with Objects365 first and test-time augmentation. 12
epochs at batch 16, 8 GPUs x 2 images. Not run; the recipe is assumed.

    tools/dist_train.sh configs/coco/swinv2g_fd_htc.py 8
"""
_base_ = [
    '../_base_/dense/htc_swinv2g.py', '../_base_/starting_weights/swinv2g.py'
]

model = dict(backbone=dict(_base_.after, _delete_=True, **_base_.maps))
