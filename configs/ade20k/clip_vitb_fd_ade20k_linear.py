"""A linear layer on the frozen CLIP ViT-B/16 FD student, on ADE20K.

A quick test, 20,000 iterations at batch 16, 8 GPUs x 2 images; the paper has
no such row.

    tools/dist_train.sh configs/ade20k/clip_vitb_fd_ade20k_linear.py 8
"""
_base_ = [
    '../_base_/dense/linear_vitb16.py',
    '../_base_/starting_weights/clip_vitb.py'
]

model = dict(
    backbone=dict(
        _base_.after, _delete_=True, **_base_.maps, drop_path_rate=0.))
