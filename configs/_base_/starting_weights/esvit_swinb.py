"""EsViT Swin-B, before and after FD: the networks that tasks start from."""
_base_ = ['../teachers/esvit_swinb.py', '../students/swinv2b.py']

before = dict(
    _base_.teacher.backbone,
    init_cfg=dict(type='Pretrained', checkpoint=_base_.teacher.checkpoint))
after = dict(
    _base_.student,
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/esvit_swinb_fd/epoch_300.pth',
        prefix='backbone.'))
source = 'python tools/train.py configs/fd/esvit_swinb_fd.py writes it'
