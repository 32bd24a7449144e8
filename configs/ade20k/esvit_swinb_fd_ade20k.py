"""UperNet on ADE20K with the EsViT Swin-B FD student: 48.9 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images. Windows of 14 tokens.

    tools/dist_train.sh configs/ade20k/esvit_swinb_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/dense/upernet_swinb.py',
    '../_base_/starting_weights/esvit_swinb.py'
]

model = dict(backbone=dict(_base_.after, _delete_=True, **_base_.maps))
