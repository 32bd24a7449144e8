"""HTC on COCO of the Swin V2-G FD student: 64.2 box AP in the paper.

And 55.4 mask AP; both with Objects365 first and test-time augmentation. Not
run; the recipe is assumed.

    tools/dist_train.sh configs/coco/swinv2g_fd_htc.py 8
"""
_base_ = [
    '../_base_/htc_coco_swinv2g.py',
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
