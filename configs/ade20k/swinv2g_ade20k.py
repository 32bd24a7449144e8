"""Before: Swin V2-G itself, UperNet on ADE20K: 59.9 mIoU in the paper.

The recipe of its student, on the student's blocks. Not run.

    tools/dist_train.sh configs/ade20k/swinv2g_ade20k.py 8
"""
_base_ = [
    '../_base_/upernet_ade20k_swinv2g.py',
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
