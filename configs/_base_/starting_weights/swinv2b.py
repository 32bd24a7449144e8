"""Swin V2-B, before and after FD: the networks that tasks start from."""
_base_ = ['swinv2.py', '../teachers/swinv2b.py', '../students/swinv2b.py']

before = dict(
    _base_.teacher.backbone,
    **_base_.pop('blocks'),
    init_cfg=dict(type='Pretrained', checkpoint=_base_.teacher.checkpoint))
after = dict(
    _base_.student,
    **_base_.pop('trained_windows'),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/swinv2b_fd/epoch_300.pth',
        prefix='backbone.'))
source = 'tools/dist_train.sh configs/fd/swinv2b_fd.py writes it'
