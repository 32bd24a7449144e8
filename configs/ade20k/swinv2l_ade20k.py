"""Before: Swin V2-L itself, UperNet on ADE20K.

160,000 iterations at batch 16, 8 GPUs x 2 images: the recipe of its student.
Not run.

    tools/dist_train.sh configs/ade20k/swinv2l_ade20k.py 8
"""
_base_ = 'swinv2l_fd_ade20k.py'

source = _base_.teacher.source
model = dict(backbone=dict(_base_.before, _delete_=True, **_base_.maps))
