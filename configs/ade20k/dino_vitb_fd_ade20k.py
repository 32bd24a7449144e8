"""UperNet on ADE20K of the DINO ViT-B/16 FD student: 47.7 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images.

    tools/dist_train.sh configs/ade20k/dino_vitb_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/upernet_ade20k.py',
    '../_base_/students/vitb16_dense.py',
]

source = 'python tools/train.py configs/fd/dino_vitb_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        _delete_=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/dino_vitb_fd/epoch_300.pth',
            prefix='backbone.')))
