"""Swin V2-G, before and after FD: the networks that tasks start from.

PyTorch's FSDP shards them over all GPUs.
"""
_base_ = ['swinv2.py', '../teachers/swinv2g.py', '../students/swinv2g.py']

before = dict(
    _base_.teacher.backbone,
    **_base_.pop('blocks'),
    with_cp=True,
    init_cfg=dict(type='Pretrained', checkpoint=_base_.teacher.checkpoint))
after = dict(
    _base_.student,
    **_base_.pop('trained_windows'),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/swinv2g_fd/epoch_300.pth',
        prefix='backbone.'))
source = 'tools/dist_train.sh configs/fd/swinv2g_fd.py writes it'
model_wrapper_cfg = dict(type='mmfd.FullySharded', param_dtype='bfloat16')
