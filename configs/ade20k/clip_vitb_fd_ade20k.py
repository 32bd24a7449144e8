"""UperNet on ADE20K with the CLIP ViT-B/16 FD student: 52.8 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images.

    tools/dist_train.sh configs/ade20k/clip_vitb_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/dense/upernet_vitb16.py',
    '../_base_/starting_weights/clip_vitb.py'
]

model = dict(backbone=dict(_base_.after, _delete_=True, **_base_.maps))
