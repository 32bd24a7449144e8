"""CLIP ViT-B/16, before and after FD: the networks that tasks start from."""
_base_ = ['vit.py', '../teachers/clip_vitb16.py', '../students/vitb16.py']

before = dict(
    _base_.teacher.backbone,
    init_cfg=dict(type='Pretrained', checkpoint=_base_.teacher.checkpoint))
statistics_before = dict(
    mean=_base_.teacher.normalize.mean, std=_base_.teacher.normalize.std)
after = dict(
    _base_.student,
    **_base_.pop('bias_per_block'),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/clip_vitb_fd/epoch_300.pth',
        prefix='backbone.'))
source = 'python tools/train.py configs/fd/clip_vitb_fd.py writes it'
