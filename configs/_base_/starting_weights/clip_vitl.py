"""CLIP ViT-L/14, before and after FD: the networks that tasks start from."""
_base_ = ['vit.py', '../teachers/clip_vitl14.py', '../students/vitl14.py']

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
        checkpoint='work_dirs/clip_vitl_fd/epoch_300.pth',
        prefix='backbone.'))
source = 'python tools/train.py configs/fd/clip_vitl_fd.py writes it'
