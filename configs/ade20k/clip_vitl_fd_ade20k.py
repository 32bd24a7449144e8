"""UperNet on ADE20K of the CLIP ViT-L/14 FD student: 55.7 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images. Crops of 504 pixels, which
patches of 14 divide; drop path and layer decay are assumed too.

    tools/dist_train.sh configs/ade20k/clip_vitl_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/upernet_ade20k_vitl14.py',
    '../_base_/students/vitl14_dense.py',
]

source = 'python tools/train.py configs/fd/clip_vitl_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        _delete_=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/clip_vitl_fd/epoch_300.pth',
            prefix='backbone.')))
