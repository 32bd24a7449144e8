"""DeiT ViT-B/16, before and after FD: the networks that tasks start from."""
_base_ = ['vit.py', '../teachers/deit_vitb16.py', '../students/vitb16.py']

before = dict(
    _base_.teacher.backbone,
    init_cfg=dict(type='Pretrained', checkpoint=_base_.teacher.checkpoint))
after = dict(
    _base_.student,
    **_base_.pop('bias_per_block'),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/deit_vitb_fd/epoch_300.pth',
        prefix='backbone.'))
source = 'python tools/train.py configs/fd/deit_vitb_fd.py writes it'
