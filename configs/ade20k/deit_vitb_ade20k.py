"""Before: DeiT ViT-B/16 itself, UperNet on ADE20K: 47.0 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images: the recipe of its student,
with its own absolute positions.

    tools/dist_train.sh configs/ade20k/deit_vitb_ade20k.py 8
"""
_base_ = 'deit_vitb_fd_ade20k.py'

source = _base_.teacher.source
model = dict(backbone=dict(_base_.before, _delete_=True, **_base_.maps))
