"""Every config, narrow and shallow: what it starts from, and an iteration."""
import re
from pathlib import Path

import pytest
import torch
from helpers.models import arch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from test_configs import LEAVES, SCOPE
from test_tools import command

from mmfd.launch.starting_weights import load_pretrained
from mmfd.weights import checkpoints

RECIPES = [  # DeepSpeed's optimizer works in its own engine alone
    x for x in LEAVES
    if x.split('/')[1] in ('fd', 'classification') and 'deepspeed' not in x
]
SWIN = dict(embed_dims=16, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8])
SWIN_V2 = dict(SWIN, extra_norm_every_n_blocks=0)
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
    """A config with small networks, their weights still to be named."""
    cfg = Config.fromfile(leaf)
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
    with SCOPE('mmpretrain'):
        return MODELS.build(model)


def saved(module, path):
    module.init_weights()
    checkpoints.save(module.state_dict(), path, {})
    return str(path)


def before(checkpoint, backbone, folder):
    """What a config starts from, as another run or a converter leaves it."""
    run = re.match(r'work_dirs/(\w+)/', checkpoint)
    if not run:
        return saved(build(dict(backbone, init_cfg=None)), folder / 'x.pth')
    [leaf] = Path('configs').glob(f'*/{run[1]}.py')
    cfg = small(str(leaf))
    cfg.model.backbone.pop('init_cfg', None)
    return saved(build(cfg.model), folder / 'x.pth')


@pytest.mark.parametrize('leaf', RECIPES)
def test_config_starts_from_the_one_before_it_and_trains(leaf, tmp_path):
    cfg = small(leaf)
    if 'teacher' in cfg.model:
        teacher = cfg.model.teacher
        teacher.checkpoint = before('', teacher.backbone, tmp_path)
    else:
        init = cfg.model.backbone.init_cfg
        init.checkpoint = before(init.checkpoint, cfg.model.backbone, tmp_path)
    model = build(cfg.model)
    model.init_weights()
    assert_loaded(model, tmp_path / 'x.pth')
    with SCOPE('mmpretrain'):
        optim = build_optim_wrapper(model, cfg.optim_wrapper)
    size = cfg.train_dataloader.dataset.pipeline[0].crop.scale
    batch = dict(
        inputs=torch.randint(0, 256, (2, 3, size, size)).float(),
        data_samples=[DataSample().set_gt_label(x) for x in (3, 5)])
    weights = [p.clone() for p in model.parameters() if p.requires_grad]
    assert model.train().train_step(batch, optim)['loss'].isfinite()
    moved = [p for p in model.parameters() if p.requires_grad]
    assert not all(map(torch.equal, weights, moved))
    assert all(p.isfinite().all() for p in moved)


def assert_loaded(model, path):
    """The first and last weights that the file and the backbone share."""
    file = checkpoints.state_dict_of(checkpoints.load(path), path)
    file = {k.removeprefix('backbone.'): v for k, v in file.items()}
    teacher = getattr(model, 'teacher', None)
    ours = (teacher or model).backbone.state_dict()
    shared = [k for k in ours if 'weight' in k and k in file]
    assert len(shared) > 10
    assert all(torch.equal(ours[k], file[k]) for k in shared)


def test_empty_prefix_of_the_hosts_own_backbone_is_none(tmp_path):
    cfg = small('configs/classification/esvit_swinb_in1k.py')
    init = cfg.model.backbone.init_cfg
    init.checkpoint = before('', cfg.model.backbone, tmp_path)
    init.prefix = ''
    model = build(cfg.model)
    load_pretrained(model)
    model.init_weights()
    assert_loaded(model, init.checkpoint)


@pytest.mark.full
@pytest.mark.parametrize('leaf', [x for x in RECIPES if 'swinv2g' not in x])
def test_config_trains_at_full_width(leaf, tmp_path, shapes_root):
    cfg = Config.fromfile(leaf)
    options = [
        'train_dataloader.dataset.indices=2', 'train_dataloader.batch_size=2',
        'val_dataloader.dataset.indices=2', 'val_dataloader.batch_size=2',
        'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False', 'train_cfg.max_epochs=1',
        'val_dataloader.persistent_workers=False', 'train_cfg.val_interval=1',
        'default_hooks.logger.interval=1'
    ]
    if 'teacher' in cfg.model:
        file = before('', cfg.model.teacher.backbone, tmp_path)
        options.append(f'model.teacher.checkpoint={file}')
    else:
        init = cfg.model.backbone.pop('init_cfg')
        file = before('', cfg.model.backbone, tmp_path)
        options += [
            f'model.backbone.init_cfg.checkpoint={file}',
            'model.head.num_classes=10',
            'model.data_preprocessor.num_classes=10'
        ]
        if 'prefix' in init:  # of a student, which is alone here
            options.append('model.backbone.init_cfg.prefix=')
    log = command('train', leaf, '--work-dir', tmp_path / 'run', '--data-root',
                  shapes_root / 'imagenet', '--cfg-options', *options)
    assert re.search(r'Epoch\(train\) .* loss: \d', log)
    assert re.search(r'accuracy/top1: \d|held_out/loss: \d', log)
