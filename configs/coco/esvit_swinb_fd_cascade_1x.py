"""Cascade Mask R-CNN on COCO of the EsViT Swin-B FD student.

12 epochs at batch 16, 8 GPUs x 2 images. The paper has no such row.

    tools/dist_train.sh configs/coco/esvit_swinb_fd_cascade_1x.py 8
"""
_base_ = [
    '../_base_/cascade_coco_swin_1x.py',
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
