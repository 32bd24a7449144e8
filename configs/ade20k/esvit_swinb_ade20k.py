"""Before: EsViT Swin-B itself, UperNet on ADE20K: 47.3 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images: the recipe of its student.

    tools/dist_train.sh configs/ade20k/esvit_swinb_ade20k.py 8
"""
_base_ = 'esvit_swinb_fd_ade20k.py'

source = _base_.teacher.source
model = dict(backbone=dict(_base_.before, _delete_=True, **_base_.maps))
