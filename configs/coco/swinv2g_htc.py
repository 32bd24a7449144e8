"""Before: Swin V2-G itself, HTC on COCO: 63.1 box AP in the paper.

12 epochs at batch 16, 8 GPUs x 2 images: the recipe of its student. Not run.

    tools/dist_train.sh configs/coco/swinv2g_htc.py 8
"""
_base_ = 'swinv2g_fd_htc.py'

source = _base_.teacher.source
model = dict(backbone=dict(_base_.before, _delete_=True, **_base_.maps))
