r"""Before: Swin V2-B itself, HTC++ on COCO.

72 epochs at batch 16, 16 GPUs x 1 image: the recipe of its student. Not run.

    tools/dist_train.sh configs/coco/swinv2b_htc.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=2
"""
_base_ = 'swinv2b_fd_htc.py'

source = _base_.teacher.source
model = dict(backbone=dict(_base_.before, _delete_=True, **_base_.maps))
