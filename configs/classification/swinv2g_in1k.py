r"""Before: Swin V2-G itself, fine-tuned like its student: 89.2 %.

No weights are published. 100 epochs at batch 1024, 16 GPUs x 64 images.

    tools/dist_train.sh configs/classification/swinv2g_in1k.py 8 \
        --cfg-options optim_wrapper.accumulative_counts=2
"""
_base_ = 'swinv2g_fd_in1k.py'

source = _base_.teacher.source
model = dict(
    backbone=dict(
        _base_.before,
        _delete_=True,
        drop_path_rate=_base_.model.backbone.drop_path_rate))
