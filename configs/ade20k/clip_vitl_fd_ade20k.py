"""UperNet on ADE20K with the CLIP ViT-L/14 FD student: 55.7 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images. Crops of 504 pixels, which
patches of 14 divide; drop path and layer decay are assumed too.

    tools/dist_train.sh configs/ade20k/clip_vitl_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/dense/upernet_vitl14.py',
    '../_base_/starting_weights/clip_vitl.py'
]

model = dict(backbone=dict(_base_.after, _delete_=True, **_base_.maps))
