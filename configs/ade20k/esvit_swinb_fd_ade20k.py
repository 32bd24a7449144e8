"""UperNet on ADE20K of the EsViT Swin-B FD student: 48.9 mIoU in the paper.

160,000 iterations at batch 16, 8 GPUs x 2 images. Windows of 14 tokens.

    tools/dist_train.sh configs/ade20k/esvit_swinb_fd_ade20k.py 8
"""
_base_ = [
    '../_base_/upernet_ade20k_swin.py',
    '../_base_/students/swinv2b_dense.py',
]

source = 'python tools/train.py configs/fd/esvit_swinb_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        _delete_=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/esvit_swinb_fd/epoch_300.pth',
            prefix='backbone.')))
