"""UperNet on ADE20K with the DINO ViT-B/16 FD student: 47.7 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images.

    tools/dist_train.sh configs/ade20k/dino_vitb_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/dense/upernet_vitb16.py',
    '../_base_/starting_weights/dino_vitb.py'
]

model = dict(backbone=dict(_base_.after, _delete_=True, **_base_.maps))
