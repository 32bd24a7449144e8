r"""The detector of HTC++ on Objects365 v2 with the Swin V2-G FD student.

Before COCO. 12 epochs at batch 64, 64 GPUs x 1 image of up to 1536 pixels. Not
run; the recipe is ours.

    tools/dist_train.sh configs/objects365/swinv2g_fd_objects365.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=8
"""
_base_ = [
    '../_base_/dense/objects365_swinv2.py',
    '../_base_/starting_weights/swinv2g.py'
]

model = dict(
    backbone=dict(_base_.after, _delete_=True, **_base_.maps),
    neck=_base_.necks.giant)
