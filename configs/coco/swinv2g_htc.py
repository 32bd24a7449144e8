"""Before: Swin V2-G itself, HTC on COCO: 63.1 box AP in the paper.

The recipe of its student, on the student's blocks. Not run.

    tools/dist_train.sh configs/coco/swinv2g_htc.py 8
"""
_base_ = [
    '../_base_/htc_coco_swinv2g.py',
    '../_base_/teachers/swinv2g.py',
]

model = dict(
    backbone=dict(
        _base_.teacher.backbone,
        _delete_=True,
        type='mmfd.StudentSwin',
        drop_path_rate=0.3,
        with_cp=True,
        pad_small_map=True,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
