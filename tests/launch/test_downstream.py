"""Segmentors and detectors: started both ways, and refused in one message."""
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.models import arch, student
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.visualization import Visualizer
from PIL import Image
from test_tools import command, refused

from mmfd.data import toy_images
from mmfd.hosts import mmcv_ops
from mmfd.launch import dataset_checks
from mmfd.launch.config_options import load_config, read_config
from mmfd.launch.parallel_config import replace_sync_batch_norm
from mmfd.launch.runner import augment, prepare
from mmfd.weights import checkpoints

mmcv_ops.install()
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


@pytest.fixture
def project(tmp_path, shapes_root):
    """A folder with an FD student and configs on a part of the shapes."""
    for host in Visualizer, *Visualizer.__subclasses__():
        host._instance_dict.clear()  # it writes where a test before did
    model = MODELS.build(student(arch=arch(layers=4), img_size=48))
    checkpoints.save(
        model.state_dict(prefix='backbone.'), tmp_path / 'fd.pth', {})
    values = dict(folder=tmp_path, shapes=shapes_root)
    for name, text, library, more, classes, norm in (
        ('seg', SEGMENTOR, 'mmseg', 'out_indices=[0, 1, 2, 3],',
         ['other', *toy_images.CLASSES], 'BN'),
        ('sync', SEGMENTOR, 'mmseg', 'out_indices=[0, 1, 2, 3],',
         ['other', *toy_images.CLASSES], 'SyncBN'),
        ('det', DETECTOR, 'mmdet', 'window_size=6, global_blocks=[1, 3],',
         list(toy_images.CLASSES), ''),
    ):
        (tmp_path / f'{name}.py').write_text(
            text.format(
                stock=STOCK % library,
                backbone=BACKBONE.format(more=more, **values),
                classes=classes,
                norm=norm,
                **values) + OPTIM)
    return tmp_path


def hosts(library, tool, *args):
    """Run a host's own tool from its installed package."""
    folder = Path(find_spec(library).origin).parent / '.mim/tools'
    # mmdet's test.py imports its models before it reads a config
    via = ['-m', 'mmfd.hosts.mmcv_ops'] if (library, tool) == ('mmdet',
                                                               'test') else []
    environ = dict(
        os.environ,
        # mmengine 0.10.7 on its own reads its checkpoints in no other way
        TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1')
    environ.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)  # of ours, from before
    done = subprocess.run(
        [sys.executable, *via, folder / f'{tool}.py', *map(str, args)],
        capture_output=True,
        text=True,
        env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def ours(library, tool, *args):
    return command(tool, *args)


MEASURES = dict(seg=r'mIoU: ([\d.]+)', det=r'coco/bbox_mAP: ([\d.]+)')


@pytest.mark.parametrize('run, name, library', [
    (ours, 'sync', 'mmseg'),
    (hosts, 'det', 'mmdet'),
    pytest.param(hosts, 'seg', 'mmseg', marks=pytest.mark.full),
    pytest.param(ours, 'det', 'mmdet', marks=pytest.mark.full),
])
def test_student_trains_and_is_tested_either_way(project, run, name, library):
    config, folder = project / f'{name}.py', project / 'run'
    log = run(library, 'train', config, '--work-dir', folder)
    losses = [float(x) for x in re.findall(r' loss: ([\d.]+)', log)]
    assert len(losses) > 1 and losses[-1] < losses[0]
    [last] = (folder / 'last_checkpoint').read_text().split()
    measure = MEASURES['det' if name == 'det' else 'seg']
    trained = re.findall(measure, log)[-1]
    log = run(library, 'test', config, last, '--work-dir', folder)
    assert re.findall(measure, log)[-1] == trained


@pytest.mark.full
def test_segmentor_goes_on_where_it_stopped(project, tmp_path):
    config = project / 'seg.py'
    command('train', config, '--work-dir', tmp_path / 'whole')
    command('train', config, '--work-dir', tmp_path / 'part', '--cfg-options',
            'train_cfg.max_iters=12')
    log = command('train', config, '--work-dir', tmp_path / 'part', '--resume')
    assert 'resumed epoch: 0, iter: 12' in log
    weights = [
        checkpoints.load(tmp_path / run / 'iter_24.pth')
        for run in ('whole', 'part')
    ]
    assert len({w['meta']['iter'] for w in weights}) == 1


def iou(project, last, scales=None):
    """mIoU of three images, once as they are or at some of the scales."""
    cfg = read_config(project / 'seg.py')
    cfg.work_dir, cfg.launcher = str(project / 'tta'), 'none'
    cfg.load_from = str(last)
    cfg.test_dataloader.dataset.indices = 3
    if scales:
        sizes, flips = cfg.tta_pipeline[1].transforms[:2]
        sizes[:], flips[:] = sizes[scales], flips[:1]
        augment(cfg)
    return prepare(cfg, train=False).test()['mIoU']


@pytest.mark.full
def test_several_scales_are_tested_as_the_config_says(project):
    cfg = read_config(project / 'seg.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        segmentor = MODELS.build(cfg.model)
    segmentor.backbone.init_weights()
    last = project / 'segmentor.pth'
    checkpoints.save(segmentor.state_dict(), last, {})
    alone = iou(project, last)
    assert iou(project, last, slice(2, 3)) == alone > 0  # at its own size
    assert iou(project, last, slice(0, 2)) != alone


def test_compile_stays_the_hosts(project):
    cfg = read_config(project / 'seg.py')
    cfg.update(
        compile=True, launcher='none', work_dir=str(project / 'compiled'))
    runner = prepare(cfg, train=True)
    assert runner.cfg.compile is True
    blocks = [
        m for m in runner.model.modules() if hasattr(m, 'branches_to_compile')
    ]
    assert len(blocks) == 4
    for block in blocks:
        assert not {*block.branches_to_compile} & {*vars(block)}


def test_scales_are_refused_where_the_config_has_none(project, monkeypatch):
    said = refused(monkeypatch, 'test', project / 'det.py', 'any.pth', '--tta')
    assert said == ('error: --tta: the config has no tta_model and no '
                    'tta_pipeline')


@pytest.mark.parametrize('start', ['simclr', 'simclr_fd', 'scratch'])
@pytest.mark.parametrize('host', ['upernet', 'mask_rcnn'])
def test_demo_starts_its_networks_alike(start, host):
    cfg = Config.fromfile(f'configs/demo/{start}_{host}.py')
    other = Config.fromfile(f'configs/demo/scratch_{host}.py')
    init = cfg.model.backbone.pop('init_cfg', None)
    if start == 'simclr':
        assert init.checkpoint == cfg.teacher.checkpoint
    else:
        assert cfg.model.backbone == other.model.backbone
        assert init == (cfg.distilled if start == 'simclr_fd' else None)
    cfg.model.backbone = other.model.backbone
    for key in ('model', 'train_cfg', 'train_dataloader', 'optim_wrapper'):
        assert cfg[key] == other[key]


# --- the optimizer's groups ---

BACKBONES = {
    'vit':
    student(use_rel_pos_bias=True, use_shared_rel_pos_bias=False),
    'teacher':
    dict(
        type='mmpretrain.VisionTransformer',
        arch=arch(),
        img_size=32,
        patch_size=8),
    'swin':
    dict(
        type='mmfd.StudentSwin',
        arch=dict(
            embed_dims=24,
            depths=[1, 2, 1],
            num_heads=[1, 2, 4],
            extra_norm_every_n_blocks=0),
        img_size=32,
        window_size=4,
        out_indices=[2])
}


def groups(model, scope):
    """Name of a parameter -> (lr, weight decay)."""
    with DefaultScope.overwrite_default_scope(scope):
        optim = build_optim_wrapper(
            model,
            dict(
                type='OptimWrapper',
                constructor='mmfd.LayerDecayOptimWrapperConstructor',
                paramwise_cfg=dict(layer_decay=0.65),
                optimizer=dict(type='AdamW', lr=1., weight_decay=0.05)))
    return {
        name: (group['lr'], group['weight_decay'])
        for group in optim.optimizer.param_groups
        for name in group['param_names']
    }


@pytest.mark.parametrize('backbone', BACKBONES)
def test_layers_of_a_backbone_are_the_same_in_every_library(backbone):
    config = BACKBONES[backbone]
    made = {}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        made['mmpretrain'] = MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=config,
                head=dict(type='LinearClsHead', num_classes=2,
                          in_channels=48)))
    for library, file, key in (('mmseg', 'fcn_r50-d8', 'decode_head'),
                               ('mmdet', 'faster-rcnn_r50_fpn', 'roi_head')):
        base = Path(find_spec(library).origin).parent
        model = Config.fromfile(base /
                                f'.mim/configs/_base_/models/{file}.py').model
        model.backbone = config
        model.pop('pretrained', None)
        with DefaultScope.overwrite_default_scope(library):
            made[library] = MODELS.build(model)
        assert hasattr(made[library], key)
    found = {name: groups(model, name) for name, model in made.items()}
    inner = [{
        k: v
        for k, v in of.items() if k.startswith('backbone.')
    } for of in found.values()]
    assert inner[0] == inner[1] == inner[2]
    assert len({lr for lr, _ in inner[0].values()}) > 4
    for of in found.values():
        behind = [lr for k, (lr, _) in of.items() if k not in inner[0]]
        assert behind and {*behind} == {1.}


# --- stock configs, untouched ---


@pytest.mark.parametrize('name', [
    'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024',
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
])
def test_stock_resnet_still_runs(name, tmp_path):
    """But for SyncBN, which no CPU has, and for the size that crops have."""
    (tmp_path / 'stock.py').write_text(f"_base_ = '{name}.py'")
    cfg = read_config(tmp_path / 'stock.py')
    replace_sync_batch_norm(cfg)
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (64, 64)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        if cfg.default_scope == 'mmseg':
            from mmengine.structures import PixelData
            from mmseg.structures import SegDataSample
            sample = SegDataSample(
                gt_sem_seg=PixelData(data=torch.ones(1, 64, 64).long()))
        else:
            from mmdet.testing import demo_mm_inputs
            sample = demo_mm_inputs(
                2, [[3, 64, 64]] * 2, num_classes=80,
                with_mask=True)['data_samples'][0]
        sample.set_metainfo(dict(ori_shape=(64, 64), img_shape=(64, 64)))
        data = model.data_preprocessor(
            dict(
                inputs=[
                    torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
                    for _ in range(2)
                ],
                data_samples=[sample, sample.clone()]), True)
        losses = model.train()(**data, mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
        assert total.isfinite(
        ) and model.backbone.layer4[0].conv1.weight.grad.any()
        with torch.no_grad():
            found = model.eval()(**data, mode='predict')
    assert len(found) == 2


# --- bad input ---


@pytest.mark.parametrize('library', ['mmseg', 'mmdet'])
def test_library_that_is_not_there_is_named_with_the_command(
        project, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)  # cannot be imported
    name = dict(mmseg='seg', mmdet='det')[library]
    said = refused(monkeypatch, 'train', project / f'{name}.py')
    assert library in said and said.endswith("pip install 'mmfd[downstream]'")


def test_data_root_reaches_nested_datasets_and_evaluators(project, tmp_path):
    args = dict(
        config=str(project / 'det.py'),
        work_dir=None,
        launcher='none',
        local_rank=0,
        data_root=[str(tmp_path / 'other')],
        cfg_options={})
    text = (project / 'det.py').read_text()
    (project / 'det.py').write_text(text + '''
train_dataloader = dict(batch_size=4, dataset=dict(
    _delete_=True, type='RepeatDataset', times=2, dataset=dict(
        type='CocoDataset', data_root='{shapes}/coco/')))
''')
    cfg = load_config(type('Arguments', (), args))
    assert cfg.train_dataloader.dataset.dataset.data_root == args['data_root'][
        0]
    assert cfg.val_dataloader.dataset.data_root == args['data_root'][0]
    assert cfg.test_evaluator.ann_file == str(
        tmp_path / 'other/annotations/instances_val2017.json')


def no_boxes(project):
    file = project / 'none.json'
    file.write_text(
        json.dumps(
            dict(
                images=[],
                annotations=[],
                categories=[
                    dict(id=i, name=name)
                    for i, name in enumerate(toy_images.CLASSES)
                ])))
    return [f'train_dataloader.dataset.ann_file={file}']


def classifier(project):
    weights = MODELS.build(student(arch=arch(layers=4), img_size=48))
    checkpoints.save(
        weights.state_dict(prefix='backbone.')
        | {'head.fc.weight': torch.ones(10, 48)}, project / 'cls.pth', {})
    return [
        f'model.backbone.init_cfg.checkpoint={project}/cls.pth',
        'model.backbone.init_cfg.prefix='
    ]


def official(project):
    file = project / 'official.pth'
    torch.save(dict(model={'encoder.blocks.0.gamma_1': torch.ones(48)}), file)
    return [f'model.backbone.init_cfg.checkpoint={file}']


FAULTS = {
    'official file':
    ('seg', official,
     'python tools/convert.py fd-official .*official.pth DST'),
    'classes of the head':
    ('seg', lambda p: ['model.decode_head.num_classes=150'],
     'the images have 11 classes, the model 150: set --cfg-options '
     'model.decode_head.num_classes=11$'),
    'classes of two heads': ('det', lambda p: [
        'model.roi_head.bbox_head.num_classes=80',
        'model.roi_head.mask_head.num_classes=80'
    ], 'model.roi_head.bbox_head.num_classes=10 '
                             'model.roi_head.mask_head.num_classes=10$'),
    'labels without a class': ('seg', lambda p: [
        'train_dataloader.dataset.metainfo.classes=[other,arrow]',
        'train_dataloader.dataset.metainfo.palette=[[0,0,0],[1,1,1]]',
        'model.decode_head.num_classes=2', 'model.auxiliary_head.num_classes=2'
    ], r'\.png has the labels \[\d.*\], and there are 2 classes: set '
                               'metainfo.classes'),
    'classes without a category':
    ('det',
     lambda p: ['train_dataloader.dataset.metainfo.classes=[arrow,cat]'],
     'has categories for 1 of the 2 classes .*: set metainfo.classes'),
    'no boxes': ('det', no_boxes,
                 'images of train_dataloader cannot be listed .*: check '
                 '--data-root, and data_prefix, ann_file'),
    'no such block':
    ('seg', lambda p: ['model.backbone.out_indices=[0,1,2,9]'],
     r'out_indices=\[0, 1, 2, 9\] of a backbone of 4 blocks: set '
     'backbone.out_indices'),
    'prefix forgotten': ('seg', classifier,
                         "whole model: add prefix='backbone.'"),
    'another depth': ('seg', lambda p: ['model.backbone.arch.num_layers=5'],
                      r'fd.pth does not fit StudentViT: it lacks layers\.4'),
    'no images':
    ('seg',
     lambda p: ['train_dataloader.dataset.data_prefix.img_path=nowhere'],
     'cannot be listed .*nowhere.*check --data-root'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_mistake_is_one_message_and_leaves_nothing(project, monkeypatch,
                                                   fault):
    name, options, message = FAULTS[fault]
    options = options(project)
    there = set(os.listdir(project))
    said = refused(monkeypatch, 'train', project / f'{name}.py', '--work-dir',
                   project / 'run', '--cfg-options', *options)
    assert re.search(message, said), said
    assert set(os.listdir(project)) == there


def test_heads_of_edges_may_have_one_class():
    data = SimpleNamespace(metainfo=dict(classes=('a', 'b', 'c')))
    model = dict(
        decode_head=dict(num_classes=3), auxiliary_head=[dict(num_classes=1)])
    dataset_checks.check_classes(model, data)
    model['auxiliary_head'][0]['num_classes'] = 2
    with pytest.raises(
            ValueError,
            match=r'set --cfg-options '
            r'model\.auxiliary_head\.0\.num_classes=3$'):
        dataset_checks.check_classes(model, data)


def test_images_smaller_than_a_patch_are_one_message(project, monkeypatch):
    folder = project / 'tiny'
    for kind in 'images/training', 'annotations/training':
        (folder / kind).mkdir(parents=True)
        suffix = 'jpg' if kind.startswith('images') else 'png'
        shape = (5, 40, 3) if suffix == 'jpg' else (5, 40)
        for i in range(8):
            Image.fromarray(np.zeros(shape, np.uint8)).save(folder / kind /
                                                            f'{i}.{suffix}')
    said = refused(monkeypatch, 'train', project / 'seg.py', '--work-dir',
                   project / 'run', '--cfg-options',
                   f'train_dataloader.dataset.data_root={folder}',
                   'model.data_preprocessor.size=(5,40)')
    assert 'images of 5 x 40 pixels are smaller than the patch' in said
