"""Cascade Mask R-CNN on COCO of the CLIP ViT-L/14 FD student.

36 epochs with large-scale jitter at batch 16, 8 GPUs x 2 images. The paper has
no such row.

    tools/dist_train.sh configs/coco/clip_vitl_fd_cascade_3x.py 8
"""
_base_ = [
    '../_base_/cascade_coco_vitl14_3x.py',
    '../_base_/students/vitl14_windowed.py',
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
