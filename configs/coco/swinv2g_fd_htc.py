r"""HTC++ on COCO with the Swin V2-G FD student: 64.2 box AP in the paper.

And 55.4 mask AP; both after Objects365 and by --tta (docs/swinv2g.md). 72
epochs at batch 16, 16 GPUs x 1 image of up to 1536 pixels. Not run. The first
command begins after FD, the second goes on from Objects365.

    tools/dist_train.sh configs/coco/swinv2g_fd_htc.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=2
    tools/dist_train.sh configs/coco/swinv2g_fd_htc.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=2 \
        load_from=work_dirs/swinv2g_fd_objects365/epoch_12.pth \
        model.backbone.init_cfg=None
"""
_base_ = [
    '../_base_/dense/htc_swinv2.py', '../_base_/starting_weights/swinv2g.py'
]

model = dict(
    backbone=dict(_base_.after, _delete_=True, **_base_.maps),
    neck=_base_.necks.giant)
