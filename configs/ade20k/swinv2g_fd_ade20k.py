"""UperNet on ADE20K of the Swin V2-G FD student: 61.4 mIoU in the paper.

At several scales and crops of 896 pixels. Not run; the recipe is assumed.

    tools/dist_train.sh configs/ade20k/swinv2g_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/upernet_ade20k_swinv2g.py',
    '../_base_/students/swinv2g_dense.py',
]

source = 'python tools/train.py configs/fd/swinv2g_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        _delete_=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/swinv2g_fd/epoch_300.pth',
            prefix='backbone.')))
