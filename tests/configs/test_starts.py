"""Small copies of the configs start from the one before them, and train."""
import re
from pathlib import Path

import pytest
import torch
from helpers.commands import command
from helpers.configs import check_all, leaves, load
from helpers.models import arch, swin_arch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from mmfd.launch.starting_weights import load_pretrained
from mmfd.weights import checkpoints

RECIPES = leaves('fd', 'classification')
SWIN_V2 = swin_arch(16, (1, 1, 2, 1), (1, 2, 4, 8))
SWIN = {k: v for k, v in SWIN_V2.items() if not k.startswith('extra')}
SMALL = {  # type -> arch and width
    'mmfd.StudentViT': (arch(48, 2, 3), 48),
    'mmpretrain.VisionTransformer': (arch(64, 2, 2), 64),
    'mmfd.StudentSwin': (SWIN_V2, 128),
    'mmpretrain.SwinTransformer': (SWIN, 128),
    'mmpretrain.SwinTransformerV2': (SWIN_V2, 128),
}


def shrink(network):
    """Make a network's config small; return its width."""
    network.arch, width = SMALL[network.type]
    return width


def small(leaf):
    """A config with small networks and no weights files."""
    cfg = load(leaf)
    model, width = cfg.model, shrink(cfg.model.backbone)
    if 'teacher' in model:
        model.neck.in_channels = width
        model.neck.out_channels = shrink(model.teacher.backbone)
        model.teacher.checkpoint = 'random'
    else:
        model.head.in_channels = width
        if model.type == 'mmfd.LinearProbe':
            necks = model.neck if isinstance(model.neck,
                                             list) else [model.neck]
            necks[-1].input_features = width
    return cfg


def build(model):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(model)


def saved(model, path):
    """Random weights of a model, in a file."""
    module = build(model)
    module.init_weights()
    checkpoints.save(module.state_dict(), path, {})
    return str(path)


def model_before(checkpoint, backbone):
    """The config of what a checkpoint has the weights of."""
    run = re.match(r'work_dirs/(\w+)/', checkpoint)
    if not run:  # what a converter writes: a network
        return dict(backbone, init_cfg=None)
    [leaf] = Path('configs').glob(f'*/{run[1]}.py')
    model = small(leaf).model
    model.backbone.pop('init_cfg', None)
    return model


def assert_loaded(model, path):
    """The weights that the file and the network share are the file's."""
    file = checkpoints.state_dict_of(checkpoints.load(path), path)
    file = {k.removeprefix('backbone.'): v for k, v in file.items()}
    teacher = getattr(model, 'teacher', None)
    ours = (teacher or model).backbone.state_dict()
    shared = [k for k in ours if 'weight' in k and k in file]
    assert len(shared) > 10
    assert all(torch.equal(ours[k], file[k]) for k in shared)


def test_config_starts_from_the_one_before_it_and_trains(tmp_path):
    seen = set()  # many differ in names alone when they are small

    def check(leaf):
        cfg = small(leaf)
        if 'teacher' in cfg.model:
            start = cfg.model.teacher
            first = model_before('', start.backbone)
        else:
            start = cfg.model.backbone.init_cfg
            first = model_before(start.checkpoint, cfg.model.backbone)
        size = cfg.train_dataloader.dataset.pipeline[0].crop.scale
        start.checkpoint = str(tmp_path / 'before.pth')
        cfg.model.get('teacher', {}).pop('source', None)
        key = repr((first, cfg.model, cfg.optim_wrapper, size))
        if key in seen:
            return
        seen.add(key)
        saved(first, start.checkpoint)
        model = build(cfg.model)
        model.init_weights()
        assert_loaded(model, start.checkpoint)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            optim = build_optim_wrapper(model, cfg.optim_wrapper)
        batch = dict(
            inputs=torch.randint(0, 256, (2, 3, size, size)).float(),
            data_samples=[DataSample().set_gt_label(x) for x in (3, 5)])
        weights = [p.clone() for p in model.parameters() if p.requires_grad]
        assert model.train().train_step(batch, optim)['loss'].isfinite()
        moved = [p for p in model.parameters() if p.requires_grad]
        assert not all(map(torch.equal, weights, moved))
        assert all(p.isfinite().all() for p in moved)

    check_all(check, RECIPES)


def test_empty_prefix_of_the_hosts_own_backbone_is_none(tmp_path):
    cfg = small('configs/classification/esvit_swinb_in1k.py')
    init = cfg.model.backbone.init_cfg
    first = model_before('', cfg.model.backbone)
    init.checkpoint, init.prefix = saved(first, tmp_path / 'before.pth'), ''
    model = build(cfg.model)
    load_pretrained(model)
    model.init_weights()
    assert_loaded(model, init.checkpoint)


@pytest.mark.full
@pytest.mark.parametrize('leaf', [x for x in RECIPES if 'swinv2g' not in x])
def test_config_trains_at_full_width(leaf, tmp_path, shapes_root):
    cfg = load(leaf)
    options = [
        'train_dataloader.dataset.indices=2', 'train_dataloader.batch_size=2',
        'val_dataloader.dataset.indices=2', 'val_dataloader.batch_size=2',
        'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False', 'train_cfg.max_epochs=1',
        'val_dataloader.persistent_workers=False', 'train_cfg.val_interval=1',
        'default_hooks.logger.interval=1',
        'default_hooks.param_scheduler.warmup_epochs=0'
    ]
    path = tmp_path / 'before.pth'
    if 'teacher' in cfg.model:
        file = saved(model_before('', cfg.model.teacher.backbone), path)
        options.append(f'model.teacher.checkpoint={file}')
    else:
        init = cfg.model.backbone.pop('init_cfg')
        file = saved(model_before('', cfg.model.backbone), path)
        options += [
            f'model.backbone.init_cfg.checkpoint={file}',
            'model.head.num_classes=10',
            'model.data_preprocessor.num_classes=10'
        ]
        if 'prefix' in init:  # of a student, which is alone here
            options.append('model.backbone.init_cfg.prefix=')
    log = command('train', leaf, '--work-dir', tmp_path / 'run', '--data-root',
                  shapes_root / 'imagenet', '--cfg-options', *options)
    assert re.search(r'^epoch .* loss \d|^iteration .* loss \d', log, re.M)
    assert re.search(r'accuracy/top1 \d|held_out/loss \d', log)
