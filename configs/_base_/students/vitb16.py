"""FD's ViT-B/16: no absolute positions, one relative bias for all blocks."""
_base_ = '../statistics.py'

statistics = dict(
    type='mmfd.Normalize', **_base_.pop('statistics_of').imagenet)
student = dict(
    type='mmfd.StudentViT',
    arch='base',
    img_size=224,
    patch_size=16,
    drop_path_rate=0.2,
    layer_scale_init_value=0.1,
    use_rel_pos_bias=False,
    use_shared_rel_pos_bias=True,
    final_norm=True,
    out_type='raw')
