r"""Before: Swin V2-B itself, the detector of HTC++ on Objects365 v2.

12 epochs at batch 64, 64 GPUs x 1 image: the recipe of its student. Not run.

    tools/dist_train.sh configs/objects365/swinv2b_objects365.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=8
"""
_base_ = 'swinv2b_fd_objects365.py'

source = _base_.teacher.source
model = dict(backbone=dict(_base_.before, _delete_=True, **_base_.maps))
