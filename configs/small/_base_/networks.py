"""Teacher and student at small scale: 6 blocks, 128 channels, 32 pixels."""
_base_ = '../../_base_/statistics.py'

statistics = _base_.pop('statistics_of').imagenet
arch = dict(
    embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
grid = dict(arch=arch, img_size=32, patch_size=8)  # 16 tokens and cls
teacher = dict(
    type='mmfd.Teacher',
    checkpoint='evidence/teachers/simclr.pth',
    source='make small DATA=DIR trains it, as docs/evidence.md says',
    normalize=dict(statistics, type='mmfd.Normalize'),
    backbone=dict(grid, type='mmpretrain.VisionTransformer', out_type='raw'),
    neck=dict(type='mmfd.WhiteningNeck'))
student = dict(
    grid,
    type='mmfd.StudentViT',
    drop_path_rate=0.1,
    use_rel_pos_bias=False,
    use_shared_rel_pos_bias=True,
    final_norm=True,
    out_type='raw')
