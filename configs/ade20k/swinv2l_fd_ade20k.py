"""UperNet on ADE20K with the Swin V2-L FD student.

The pipeline of Swin V2-G (docs/swinv2g.md); the paper has no such row.
160,000 iterations at batch 16, 8 GPUs x 2 images of 640 pixels. Not run.

    tools/dist_train.sh configs/ade20k/swinv2l_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/dense/upernet_swinv2.py',
    '../_base_/starting_weights/swinv2l.py'
]

model = dict(
    _base_.heads.large,
    backbone=dict(_base_.after, _delete_=True, **_base_.maps))
