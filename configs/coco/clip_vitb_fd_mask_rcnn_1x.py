"""Mask R-CNN on COCO of the CLIP ViT-B/16 FD student.

12 epochs at batch 16, 8 GPUs x 2 images. The paper has no such row.

    tools/dist_train.sh configs/coco/clip_vitb_fd_mask_rcnn_1x.py 8
"""
_base_ = [
    '../_base_/mask_rcnn_coco_vit_1x.py',
    '../_base_/students/vitb16_windowed.py',
]

source = 'python tools/train.py configs/fd/clip_vitb_fd.py writes it'
model = dict(
    backbone=dict(
        _base_.student,
        _delete_=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/clip_vitb_fd/epoch_300.pth',
            prefix='backbone.')))
