"""UperNet on ADE20K with the Swin V2-G FD student: 61.4 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images, with crops of 896 pixels;
the figure is at several scales. Not run; the recipe is assumed.

    tools/dist_train.sh configs/ade20k/swinv2g_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/dense/upernet_swinv2g.py',
    '../_base_/starting_weights/swinv2g.py'
]

model = dict(backbone=dict(_base_.after, _delete_=True, **_base_.maps))
