"""Segmentors and detectors: started both ways, and refused in one message."""
import json
import os
import re
import shutil
import signal
from argparse import ArgumentParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import runs
from helpers.downstream import (ours, theirs, theirs_alone, write_configs,
                                write_student)
from helpers.models import arch, student
from helpers.official_files import distilled as official_weights
from helpers.official_files import official_case
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from mmfd.data import toy_images
from mmfd.errors import Refused
from mmfd.hosts import mmcv_ops
from mmfd.launch import command_line
from mmfd.launch.config_options import load_config, read_config
from mmfd.launch.parallel_config import replace_sync_batch_norm
from mmfd.launch.runner import augment, prepare
from mmfd.weights import checkpoints

mmcv_ops.install()


@pytest.fixture(scope='session')
def distilled(tmp_path_factory):
    path = tmp_path_factory.mktemp('student') / 'fd.pth'
    write_student(path)
    return path


@pytest.fixture
def project(tmp_path, shapes_root, distilled):
    """A folder with an FD student and configs on a part of the shapes."""
    shutil.copy(distilled, tmp_path)
    write_configs(tmp_path, shapes_root)
    return tmp_path


MEASURES = dict(seg=r'mIoU:? ([\d.]+)', det=r'coco/bbox_mAP:? ([\d.]+)')


@pytest.mark.parametrize('run, name, library', [
    (ours, 'sync', 'mmseg'),
    (theirs, 'det', 'mmdet'),
    pytest.param(theirs_alone, 'det', 'mmdet', marks=pytest.mark.full),
    pytest.param(theirs_alone, 'seg', 'mmseg', marks=pytest.mark.full),
    pytest.param(ours, 'det', 'mmdet', marks=pytest.mark.full),
])
def test_student_trains_and_is_tested_either_way(project, run, name, library):
    config, folder = project / f'{name}.py', project / 'run'
    log = run(library, 'train', config, '--work-dir', folder)
    losses = [float(x) for x in re.findall(r' loss:? ([\d.]+)', log)]
    assert len(losses) > 1 and losses[-1] < losses[0]
    [last] = (folder / 'last_checkpoint').read_text().split()
    measure = MEASURES['det' if name == 'det' else 'seg']
    trained = re.findall(measure, log)[-1]
    log = run(library, 'test', config, last, '--work-dir', folder)
    assert re.findall(measure, log)[-1] == trained


RESUMABLE = """
_base_ = ['{name}.py', '{repo}/configs/_base_/dense/resumable.py']
custom_imports = dict(imports=['mmfd.hosts.mmcv_ops', 'helpers.fault_hooks'])
custom_hooks = [
    dict(type='SeenImages'),
    dict(type='SlowIteration', iteration=6, seconds=3)]
default_hooks = dict(checkpoint=_base_.saves, logger=dict(interval=1))
"""
BY_EPOCHS = """
train_dataloader = dict(
    batch_size=2, sampler=dict(_base_.order, _delete_=True))
train_cfg = dict(_base_.loop, max_epochs=2, val_interval=2)
"""


@pytest.mark.parametrize('name, last, more', [
    pytest.param('seg', 'iter_24.pth', '', marks=pytest.mark.full),
    ('det', 'epoch_2.pth', BY_EPOCHS),
])
def test_ctrl_c_saves_and_the_run_goes_on_with_the_next_images(
        project, name, last, more):
    config, whole, part = (
        project / path for path in ('stop.py', 'whole', 'part'))
    config.write_text(RESUMABLE.format(name=name, repo=os.getcwd()) + more)
    process = runs.start(config, part)
    assert runs.wait_for(lambda: 'slow iteration' in runs.log(part), process)
    os.kill(process.pid, signal.SIGINT)
    runs.finish(process, part, code=130)
    assert 'SIGINT ends this run after iteration 6' in runs.log(part)
    output = runs.run(config, part, '--resume')
    for tool in 'test', 'draw':
        assert f'mmfd {tool} {config} {part / last}' in output
    assert 'tensorboard --logdir' not in output  # the config writes no events
    seed = checkpoints.meta(part / last)['seed']  # drawn by the first start
    runs.run(
        config,
        whole,
        options=['custom_hooks.1.seconds=0', f'randomness.seed={seed}'])
    seen = [(folder / 'seen.txt').read_text() for folder in (whole, part)]
    assert seen[0] == seen[1] and len({*seen[0].splitlines()}) > 20
    states = [checkpoints.load(folder / last) for folder in (whole, part)]
    assert states[0]['meta']['iter'] == states[1]['meta']['iter'] > 20
    assert not [*part.glob('interim*')]
    if more:  # the samples of boxes and anchors, too
        torch.testing.assert_close(
            *(state['state_dict'] for state in states), rtol=0, atol=0)


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


def refusal(config, *options):
    """The message with which a training is refused, in this process."""
    parser = ArgumentParser()
    command_line.add_arguments(parser)
    args = parser.parse_args([
        str(config), '--work-dir',
        str(config.parent / 'run'), '--cfg-options', *options
    ])
    with pytest.raises(Refused) as error:
        prepare(load_config(args), train=True).train()
    return str(error.value)


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
    case = official_case('clip_vit')
    torch.save(dict(model=official_weights(case, 'teacher_openai')), file)
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
def test_mistake_is_refused_and_leaves_nothing(project, fault):
    name, options, message = FAULTS[fault]
    options = options(project)
    before = set(os.listdir(project))
    refused_with = refusal(project / f'{name}.py', *options)
    assert re.search(message, refused_with), refused_with
    assert set(os.listdir(project)) == before


def test_images_smaller_than_a_patch_are_refused(project):
    folder = project / 'tiny'
    for kind in 'images/training', 'annotations/training':
        (folder / kind).mkdir(parents=True)
        suffix = 'jpg' if kind.startswith('images') else 'png'
        shape = (5, 40, 3) if suffix == 'jpg' else (5, 40)
        for i in range(8):
            Image.fromarray(np.zeros(shape, np.uint8)).save(folder / kind /
                                                            f'{i}.{suffix}')
    assert 'images of 5 x 40 pixels are smaller than the patch' in refusal(
        project / 'seg.py', f'train_dataloader.dataset.data_root={folder}',
        'model.data_preprocessor.size=(5,40)')
