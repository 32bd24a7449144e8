"""UperNet on ADE20K with the DeiT ViT-B/16 FD student: 48.0 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images.

    tools/dist_train.sh configs/ade20k/deit_vitb_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/dense/upernet_vitb16.py',
    '../_base_/starting_weights/deit_vitb.py'
]

model = dict(backbone=dict(_base_.after, _delete_=True, **_base_.maps))
