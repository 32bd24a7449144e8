"""The demo's teacher and student: 6 blocks, 96 channels, 48 pixels."""
_base_ = '../../_base_/statistics.py'

statistics = dict(
    type='mmfd.Normalize', **_base_.pop('statistics_of').imagenet)
arch = dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384)
teacher = dict(
    type='mmfd.Teacher',
    checkpoint='{{ fileDirname }}/../teacher.pth',
    source='It comes with the project; make demo-teacher trains it again',
    normalize=statistics,
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch=arch,
        img_size=48,
        patch_size=8,
        out_type='raw'),
    neck=dict(type='mmfd.WhiteningNeck'))
student = dict(
    type='mmfd.StudentViT',
    arch=arch,
    img_size=48,
    patch_size=8,
    drop_path_rate=0.1,
    use_rel_pos_bias=False,
    use_shared_rel_pos_bias=True,
    final_norm=True,
    out_type='raw')
distilled = dict(  # what simclr_fd.py leaves for the tasks
    type='Pretrained',
    checkpoint='work_dirs/simclr_fd/epoch_4.pth',
    prefix='backbone.')
