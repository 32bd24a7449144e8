"""A small segmentor and a small detector, and the hosts' own tools."""
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from helpers.commands import command
from helpers.models import arch, student
from mmengine.registry import MODELS, DefaultScope

from mmfd.data import toy_images
from mmfd.weights import checkpoints

STOCK = "f'{__import__(\"%s\").__path__[0]}/.mim/configs/_base_/{name}.py'"
BACKBONE = '''
    backbone=dict(
        _delete_=True, type='mmfd.StudentViT', img_size=48, patch_size=8,
        arch=dict(
            embed_dims=48, num_layers=4, num_heads=3,
            feedforward_channels=192),
        use_rel_pos_bias=True, out_type='featmap', {more}
        init_cfg=dict(
            type='Pretrained', checkpoint='{folder}/fd.pth',
            prefix='backbone.')),'''
OPTIM = '''
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.8),
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0))
'''
SEGMENTOR = '''
_base_ = [
    {stock}
    for name in ('models/upernet_beit', 'datasets/ade20k', 'default_runtime',
                 'schedules/schedule_160k')
]
custom_imports = dict(
    imports=['mmfd.hosts.mmcv_ops'], allow_failed_imports=False)
heads = dict(norm_cfg=dict(type='{norm}'), num_classes=11)
model = dict(
    data_preprocessor=dict(size=(96, 96)), {backbone}
    neck=dict(embed_dim=48),
    decode_head=dict(in_channels=[48] * 4, channels=32, **heads),
    auxiliary_head=dict(in_channels=48, channels=32, **heads),
    test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(32, 32)))
load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]
dataset = dict(
    _delete_=True, type='BaseSegDataset', data_root='{shapes}/ade',
    metainfo=dict(classes={classes}, palette=[[i] * 3 for i in range(11)]),
    img_suffix='.jpg', seg_map_suffix='.png', pipeline=load)
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(dataset, data_prefix=dict(
        img_path='images/training', seg_map_path='annotations/training')))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(dataset, data_prefix=dict(
        img_path='images/validation', seg_map_path='annotations/validation')))
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=5),
    dict(type='PolyLR', power=1.0, by_epoch=False, begin=5, end=24)]
train_cfg = dict(max_iters=24, val_interval=12)
default_hooks = dict(logger=dict(interval=4), checkpoint=dict(interval=12))
'''
DETECTOR = '''
_base_ = [
    {stock}
    for name in ('models/mask-rcnn_r50_fpn', 'datasets/coco_instance',
                 'default_runtime', 'schedules/schedule_1x')
]
custom_imports = dict(
    imports=['mmfd.hosts.mmcv_ops'], allow_failed_imports=False)
rois = dict(
    out_channels=32, featmap_strides=[2, 4, 8, 16], finest_scale=14)
model = dict({backbone}
    neck=dict(
        _delete_=True, type='mmfd.SimplePyramid', in_channels=48,
        out_channels=32),
    rpn_head=dict(
        in_channels=32, feat_channels=32,
        anchor_generator=dict(scales=[4], strides=[2, 4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=rois, mask_roi_extractor=rois,
        bbox_head=dict(in_channels=32, fc_out_channels=64, num_classes=10),
        mask_head=dict(
            in_channels=32, conv_out_channels=32, num_convs=1,
            num_classes=10)),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=100)))
dataset = dict(
    data_root='{shapes}/coco/',
    metainfo=dict(classes={classes}))
train = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs')]
test = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))]
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(dataset, indices=40, pipeline=train))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(dataset, indices=4, pipeline=test))
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file='{shapes}/coco/annotations/instances_val2017.json')
test_evaluator = val_evaluator
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=5)]
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=5))
'''


def write_student(path):
    """Write a file with a student that fits the configs here."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(student(arch=arch(layers=4), img_size=48))
    checkpoints.save(model.state_dict(prefix='backbone.'), path, {})


def write_configs(folder, shapes):
    """Write `seg.py`, `sync.py` (with SyncBN) and `det.py`.

    Args:
        folder (Path): with the student `fd.pth`.
        shapes (Path): small toy images.
    """
    values = dict(folder=folder, shapes=shapes)
    stages = 'out_indices=[0, 1, 2, 3],'
    windows = 'window_size=6, global_blocks=[1, 3],'
    for name, text, library, more, classes, norm in (
        ('seg', SEGMENTOR, 'mmseg', stages, ['other',
                                             *toy_images.CLASSES], 'BN'),
        ('sync', SEGMENTOR, 'mmseg', stages, ['other',
                                              *toy_images.CLASSES], 'SyncBN'),
        ('det', DETECTOR, 'mmdet', windows, list(toy_images.CLASSES), ''),
    ):
        (folder / f'{name}.py').write_text(
            text.format(
                stock=STOCK % library,
                backbone=BACKBONE.format(more=more, **values),
                classes=classes,
                norm=norm,
                **values) + OPTIM)


def ours(library, tool, *args):
    """The output of a tool of mmfd."""
    return command(tool, *args)


def theirs(library, tool, *args):
    """The output of a host's own tool, as it is installed.

    In a fork of a process that has imported mmfd.
    """
    return command(
        *_via(library, tool), _tool(library, tool), *args, env=_environment())


def theirs_alone(library, tool, *args):
    """As `theirs`, in an interpreter of its own."""
    done = subprocess.run([
        sys.executable, *_via(library, tool),
        _tool(library, tool), *map(str, args)
    ],
                          capture_output=True,
                          text=True,
                          env={
                              **os.environ,
                              **_environment()
                          })
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def _tool(library, tool):
    folder = Path(find_spec(library).origin).parent
    return str(folder / f'.mim/tools/{tool}.py')


def _via(library, tool):
    """mmdet's test.py imports its models before it reads a config."""
    mmdet_test = (library, tool) == ('mmdet', 'test')
    return ['-m', 'mmfd.hosts.mmcv_ops'] if mmdet_test else []


def _environment():
    """mmengine 0.10.7 on its own reads its checkpoints in no other way."""
    return dict(
        TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1', TORCH_FORCE_WEIGHTS_ONLY_LOAD='')
