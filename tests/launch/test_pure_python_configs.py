"""A pure-Python config means what the config of the same names means."""
import copy
import json

import pytest
from helpers.commands import command
from mmengine.config import Config

from mmfd.errors import Refused
from mmfd.hosts.config_tree import dicts
from mmfd.launch.checks.resume_checks import check_same_model
from mmfd.launch.checks.type_names import find_class
from mmfd.launch.config_options import override, read_config

BASE = '''
from mmengine.dataset import DefaultSampler, default_collate
from mmengine.hooks import DistSamplerSeedHook, IterTimerHook, LoggerHook
from mmengine.optim import OptimWrapper
from mmpretrain.datasets import PackInputs, Resize
from mmpretrain.models import VisionTransformer
from torch.nn import SmoothL1Loss
from torch.optim import AdamW

from mmfd.data.image_folder import ImageFolder
from mmfd.data.sampler import ResumableSampler
from mmfd.data.transforms import LoadImage
from mmfd.distillation import FeatureDistillation
from mmfd.head import DistillationHead
from mmfd.necks import ProjectionNeck, WhiteningNeck
from mmfd.networks.vit import StudentViT
from mmfd.pixels import Normalize, PixelPreprocessor
from mmfd.teacher import Teacher
from mmfd.training.checkpoint_hook import ResumableCheckpointHook
from mmfd.training.hooks import ProvenanceHook
from mmfd.training.loop import ResumableLoop
from mmfd.training.lr_schedule import WarmupCosineHook
from mmfd.training.metrics import HeldOutLoss
from mmfd.training.optim import LayerDecayOptimWrapperConstructor

default_scope = 'mmpretrain'
stats = dict(
    type=Normalize, mean=[123.675, 116.28, 103.53], std=[58., 57., 57.])
arch = dict(
    embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
model = dict(
    type=FeatureDistillation,
    data_preprocessor=dict(type=PixelPreprocessor),
    teacher=dict(
        type=Teacher, checkpoint='random', normalize=stats,
        backbone=dict(
            type=VisionTransformer, arch=arch, img_size=32, patch_size=8,
            out_type='raw'),
        neck=dict(type=WhiteningNeck)),
    normalize=stats,
    backbone=dict(
        type=StudentViT, arch=arch, img_size=32, patch_size=8,
        out_type='raw'),
    neck=dict(type=ProjectionNeck, in_channels=32, out_channels=32),
    head=dict(type=DistillationHead, loss=dict(type=SmoothL1Loss, beta=2.0)))
pipeline = [
    dict(type=LoadImage), dict(type=Resize, scale=32), dict(type=PackInputs)]
loader = dict(
    batch_size=10, num_workers=0, collate_fn=dict(type=default_collate))
train_dataloader = dict(
    **loader, sampler=dict(type=ResumableSampler), drop_last=True,
    dataset=dict(
        type=ImageFolder, data_root='nowhere', split='train',
        pipeline=pipeline))
val_dataloader = dict(
    **loader, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=ImageFolder, data_root='nowhere', split='val',
        pipeline=pipeline))
val_cfg = dict()
val_evaluator = dict(type=HeldOutLoss)
test_dataloader = val_dataloader
test_cfg = dict()
test_evaluator = val_evaluator
train_cfg = dict(type=ResumableLoop, max_epochs=1, val_interval=1)
optim_wrapper = dict(
    type=OptimWrapper, constructor=LayerDecayOptimWrapperConstructor,
    optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.05))
default_hooks = dict(
    timer=dict(type=IterTimerHook), logger=dict(type=LoggerHook, interval=5),
    sampler_seed=dict(type=DistSamplerSeedHook),
    checkpoint=dict(type=ResumableCheckpointHook, interval=1),
    provenance=dict(type=ProvenanceHook),
    param_scheduler=dict(
        type=WarmupCosineHook, warmup_epochs=0, warmup_lr=1e-5, min_lr=1e-4))
'''
LEAF = '''
from mmengine.config import read_base

with read_base():
    from .base import *  # noqa
from torch.nn import L1Loss

model['head']['loss'] = dict(type=L1Loss)
'''


@pytest.fixture
def leaf(tmp_path):
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'leaf.py').write_text(LEAF)
    return tmp_path / 'leaf.py'


def test_every_type_is_a_name_that_means_its_class(leaf):
    imported, named = Config.fromfile(leaf), read_config(leaf)
    pairs = [(a['type'], b['type']) for key in imported
             if isinstance(named.get(key), (dict, list))
             for (_, a), (_,
                          b) in zip(dicts(imported[key]), dicts(named[key]))
             if 'type' in b]
    assert len(pairs) > 30
    for cls, name in pairs:
        assert isinstance(name, str)
        if cls.__name__ != 'default_collate':  # no class
            assert find_class(name, 'mmpretrain') is cls
    assert named.model.type == 'mmfd.FeatureDistillation'
    assert named.model.head.loss.type == 'torch.nn.L1Loss'
    assert named.optim_wrapper.optimizer.type == 'AdamW'
    assert named.optim_wrapper.constructor == (
        'mmfd.LayerDecayOptimWrapperConstructor')


def test_what_a_file_imports_and_defines_is_no_setting(leaf):
    """Such as `os`, which can be neither copied nor written down."""
    leaf.write_text(LEAF + '''
import math
import os.path as osp
from pathlib import Path


def double(x):
    return 2 * x


work_dir = str(Path(osp.join('runs', str(double(math.ceil(0.5))))))
''')
    try:
        Config.fromfile(leaf)
    except RuntimeError:
        pytest.skip('this mmengine calls no function that a config imports')
    cfg = read_config(leaf)
    assert cfg.work_dir == 'runs/2'
    assert {'math', 'osp', 'Path', 'double'}.isdisjoint(cfg)
    assert copy.deepcopy(cfg).pretty_text == cfg.pretty_text


def test_options_and_checks_know_what_a_pure_python_config_holds(
        leaf, tmp_path):
    cfg = read_config(leaf)
    override(cfg, {'optim_wrapper.optimizer.eps': 1e-6})
    with pytest.raises(Refused, match="has no 'epss'; did you mean 'eps'"):
        override(cfg, {'optim_wrapper.optimizer.epss': 1e-6})
    (tmp_path / 'written.py').write_text(cfg.pretty_text)
    written = read_config(tmp_path / 'written.py')
    meta = dict(model=json.dumps(cfg.model, default=str))
    check_same_model(written.model.to_dict(), meta, 'epoch_1.pth')


def test_pure_python_config_trains_and_its_written_config_resumes(
        leaf, tmp_path, shapes_root):
    run = tmp_path / 'run'
    root = shapes_root / 'imagenet'
    command('train', leaf, '--work-dir', run, '--data-root', root, root)
    log = command('train', run / 'leaf.py', '--work-dir', run, '--resume',
                  '--cfg-options', 'train_cfg.max_epochs=2')
    assert 'resumed epoch: 1, iter: 24' in log
    assert (run / 'epoch_2.pth').exists()
