"""The demo's networks as segmentors and detectors use them, at 48 pixels."""
_base_ = 'networks.py'

classes = ('arrow', 'crescent', 'cross', 'disc', 'frame', 'heart', 'hexagon',
           'ring', 'star', 'triangle')
maps = dict(
    arch=_base_.arch,
    img_size=48,
    patch_size=8,
    final_norm=False,
    out_type='featmap',
    out_indices=[1, 2, 3, 5])
teacher_maps = dict(
    maps,
    type='mmpretrain.VisionTransformer',
    init_cfg=dict(type='Pretrained', checkpoint=_base_.teacher.checkpoint))
student_maps = dict(maps, type='mmfd.StudentViT', use_rel_pos_bias=True)
