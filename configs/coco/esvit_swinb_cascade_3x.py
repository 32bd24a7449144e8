"""Before: EsViT Swin-B itself, Cascade Mask R-CNN on COCO.

36 epochs at batch 16, 8 GPUs x 2 images: the recipe of its student. The paper
has no such row.

    tools/dist_train.sh configs/coco/esvit_swinb_cascade_3x.py 8
"""
_base_ = 'esvit_swinb_fd_cascade_3x.py'

source = _base_.teacher.source
model = dict(backbone=dict(_base_.before, _delete_=True, **_base_.maps))
