"""Swin V2-G, before and after FD: the networks that tasks start from.

Both are built of the student's blocks, because mmpretrain's drop a branch
before the norm that ends it. Log-CPB keeps the coordinates of the windows that
it was trained in, the student's those of FD. PyTorch's FSDP shards them over
all GPUs.
"""
_base_ = ['../teachers/swinv2g.py', '../students/swinv2g.py']

before = dict(
    _base_.teacher.backbone,
    type='mmfd.StudentSwin',
    with_cp=True,
    init_cfg=dict(type='Pretrained', checkpoint=_base_.teacher.checkpoint))
after = dict(
    _base_.student,
    pretrained_window_sizes=[14, 14, 14, 7],
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/swinv2g_fd/epoch_300.pth',
        prefix='backbone.'))
source = 'tools/dist_train.sh configs/fd/swinv2g_fd.py writes it'
model_wrapper_cfg = dict(type='mmfd.FullySharded', param_dtype='bfloat16')
