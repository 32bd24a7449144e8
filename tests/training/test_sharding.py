"""A run in shards is the run of one process; no process has all weights."""
import json
import os
import re
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from test_processes import CONFIG, launched, logged_losses, train
from test_tools import command
from torch import nn

from mmfd.training.sharding import BLOCKS, FullySharded, sharding_units
from mmfd.weights import checkpoints
from mmfd.weights.meta_device import weightless

SWIN = '''
_base_ = 'base.py'
network = dict(
    _delete_=True,
    type='mmpretrain.SwinTransformerV2',
    arch=dict(
        embed_dims={width},
        depths={depths},
        num_heads=[1, 2, 4, 8],
        extra_norm_every_n_blocks=6),
    img_size=64,
    window_size=[8, 8, 4, 2])
model = dict(
    teacher=dict(checkpoint='random', img_size=64, backbone=network),
    backbone=dict(
        network,
        type='mmfd.StudentSwin',
        drop_path_rate=0.,
        with_cp=False,
        use_shared_rel_pos_bias=True),
    neck=dict(in_channels=8 * {width}, out_channels=8 * {width}))
resize = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=64, backend='pillow'),
    dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(dataset=dict(pipeline=resize))
val_dataloader = dict(dataset=dict(pipeline=resize))
test_dataloader = val_dataloader
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay=0.75), clip_grad=dict(max_norm=0.7))
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=2))
'''
SHARDED = 'model_wrapper_cfg.type=mmfd.FullySharded'

SCRIPT = '''
import json
import sys
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import distributed
from mmfd.launch import processes
from mmfd.weights.meta_device import weightless
from mmfd.training.sharding import (
    FullySharded, ShardedRunner, teacher_backbones)

def held(network):
    return sum(p.to_local().numel() for p in network.parameters())

cfg = Config.fromfile(sys.argv[1])
processes.join('pytorch')
with DefaultScope.overwrite_default_scope('mmpretrain'):
    torch.manual_seed(distributed.get_rank())
    model = ShardedRunner.__new__(ShardedRunner).build_model(cfg.model)
drawn = {k: v.clone() for k, v in model.state_dict().items()}
networks = [model, *teacher_backbones(model)]
built = sum(not p.is_meta for n in networks for p in n.parameters())
FullySharded(model)
state = model.state_dict()
gathered = [k for k, v in state.items() if not v.is_meta]
found = dict(
    built=built, student=held(model), teacher=held(model.teacher.backbone),
    gathered=len(gathered), keys=state.keys() == drawn.keys(),
    equal=all(torch.equal(state[k], drawn[k]) for k in gathered))
model.teacher(torch.zeros(1, 3, 64, 64))
found['copies'] = len(model.teacher.copies())
with open(f'{sys.argv[2]}/{distributed.get_rank()}.json', 'w') as f:
    json.dump(found, f)
'''


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sharding')
    (folder / 'base.py').write_text(CONFIG.format(repo=os.getcwd()))
    return folder


@pytest.fixture(scope='module')
def config(folder):
    (folder / 'tiny.py').write_text(SWIN.format(width=16, depths=[1, 1, 6, 1]))
    return folder / 'tiny.py'


def norms(run):
    """Gradient norms before clipping, as logged."""
    [log] = run.glob('*/*.log')
    return torch.tensor([
        float(n) for n in re.findall(r'grad_norm: ([\d.]+)', log.read_text())
    ])


def weights(run, epoch=4):
    return checkpoints.load(run / f'epoch_{epoch}.pth')


@pytest.fixture(scope='module')
def alone(config, shapes_root):
    """The run that all others must equal, and its losses."""
    run = config.parent / 'alone'
    losses = train(config, shapes_root / 'imagenet', run, 1,
                   'train_dataloader.batch_size=24')
    assert len(losses) == 20 and losses[-1] < 0.8 * losses[0]
    return run, losses


@pytest.fixture(scope='module')
def sharded(config, shapes_root):
    """The same in two processes, with blocks computed again."""
    run = config.parent / 'sharded'
    return run, train(config, shapes_root / 'imagenet', run, 2,
                      'train_dataloader.batch_size=12', SHARDED,
                      'model.backbone.with_cp=True')


def test_losses_and_gradient_norms_equal_those_of_one_process(alone, sharded):
    torch.testing.assert_close(sharded[1], alone[1], rtol=1e-5, atol=0)
    assert norms(alone[0]).max() > 0.7 > norms(alone[0]).min()  # some clipped
    torch.testing.assert_close(
        norms(sharded[0]), norms(alone[0]), rtol=1e-4, atol=1e-4)


def test_checkpoint_is_that_of_one_process(alone, sharded):
    files = [{f.name
              for f in run.glob('*.pth')} for run, _ in (alone, sharded)]
    assert files[0] == files[1] >= {'epoch_2.pth', 'epoch_4.pth'}
    theirs, ours = weights(alone[0]), weights(sharded[0])
    assert ours.keys() == theirs.keys()
    assert ours['meta'].keys() == theirs['meta'].keys() >= {'model'}
    assert {type(v) for v in ours['state_dict'].values()} == {torch.Tensor}
    assert ours['optimizer']['param_groups'] == theirs['optimizer'][
        'param_groups']
    assert len(theirs['optimizer']['param_groups']) > 10  # one a layer
    for key in 'state_dict', 'optimizer':
        a, b = ours[key], theirs[key]
        a, b = (a['state'], b['state']) if key == 'optimizer' else (a, b)
        torch.testing.assert_close(dict(a), dict(b), rtol=1e-4, atol=1e-6)


def test_sharded_run_goes_on_where_one_process_stopped(config, shapes_root,
                                                       alone, tmp_path):
    code, log = launched('dist_train', config, 2, '--data-root',
                         shapes_root / 'imagenet', '--work-dir', tmp_path,
                         '--resume', alone[0] / 'epoch_2.pth', '--cfg-options',
                         'train_dataloader.batch_size=12', SHARDED)
    assert code == 0 and 'resumed epoch: 2' in log, log[-3000:]
    torch.testing.assert_close(
        dict(weights(tmp_path)['state_dict']),
        dict(weights(alone[0])['state_dict']),
        rtol=1e-4,
        atol=1e-6)


def judged(log):
    """The last evaluation in a log."""
    return re.findall(r'(knn/top1|held_out/loss): ([\d.]+)', log)[-2:]


def test_one_process_judges_what_two_have_trained(config, shapes_root, alone,
                                                  sharded):
    code, log = launched('dist_test', config, sharded[0] / 'epoch_4.pth', 1,
                         '--data-root', shapes_root / 'imagenet', '--work-dir',
                         sharded[0] / 'test')
    assert code == 0, log[-3000:]
    logs = [log] + [
        next(run.glob('*/*.log')).read_text() for run, _ in (alone, sharded)
    ]
    assert len(judged(log)) == 2
    assert judged(logs[0]) == judged(logs[1]) == judged(logs[2])


@pytest.mark.full
def test_dry_run_of_shards_says_what_it_saw(config, shapes_root, tmp_path):
    code, log = launched('dist_train', config, 2, '--data-root',
                         shapes_root / 'imagenet', '--work-dir',
                         tmp_path / 'run', '--dry-run', '--cfg-options',
                         'train_dataloader.batch_size=12', SHARDED)
    assert code == 0, log[-3000:]
    assert '12 x 2 processes x 1 accumulated = 24 images an update' in log
    assert log.count('10 iterations of 20 done') == 1
    assert 'parameters are not finite' not in log
    assert not (tmp_path / 'run').exists()


def test_only_the_first_process_ever_has_all_weights(config, tmp_path):
    (tmp_path / 'script.py').write_text(SCRIPT)
    subprocess.run([
        sys.executable, '-m', 'mmfd.launch.processes', '2',
        tmp_path / 'script.py', config, tmp_path
    ],
                   check=True)
    first, second = (
        json.loads((tmp_path / f'{rank}.json').read_text())
        for rank in range(2))
    assert first['built'] > 100 and second['built'] == 0
    assert first['copies'] == second['copies'] == 0
    assert first['gathered'] > 100 and first['equal'] and first['keys']
    cfg = Config.fromfile(config).model
    with DefaultScope.overwrite_default_scope('mmpretrain'), weightless():
        model = MODELS.build(cfg)
    for network, name in (model, 'student'), (model.teacher.backbone,
                                              'teacher'):
        count = sum(p.numel() for p in network.parameters())
        assert first[name] + second[name] == count
        assert second[name] == pytest.approx(count / 2, rel=0.05)


@pytest.mark.full
@pytest.mark.parametrize('options, rtol', [
    (['model_wrapper_cfg.shard_teacher=False'], 1e-5),
    (['model_wrapper_cfg.param_dtype=bfloat16'], 2e-2),
])
def test_other_ways_to_shard_give_the_same_losses(config, shapes_root, alone,
                                                  tmp_path, options, rtol):
    losses = train(config, shapes_root / 'imagenet', tmp_path / 'run', 2,
                   'train_dataloader.batch_size=12', SHARDED, *options)
    torch.testing.assert_close(losses, alone[1], rtol=rtol, atol=0)


@pytest.mark.full
def test_accumulated_shards_give_the_same_losses(config, shapes_root, alone,
                                                 tmp_path):
    losses = train(config, shapes_root / 'imagenet', tmp_path / 'run', 2,
                   'train_dataloader.batch_size=6',
                   'optim_wrapper.accumulative_counts=2', SHARDED)
    torch.testing.assert_close(
        losses.view(-1, 2).mean(1), alone[1], rtol=1e-5, atol=0)


@pytest.mark.full
def test_hundredth_of_the_giant_is_trained_in_shards(folder, shapes_root,
                                                     tmp_path):
    """Its depths and norms at 3/32 of its width: 26 million parameters."""
    (folder / 'hundredth.py').write_text(
        SWIN.format(width=48, depths=[2, 2, 42, 4]))
    losses = [
        train(folder / 'hundredth.py', shapes_root / 'imagenet',
              tmp_path / f'{count}', count,
              f'train_dataloader.batch_size={24 // count}', *options)
        for count, options in ((1, []),
                               (2, [SHARDED, 'model.backbone.with_cp=True']))
    ]
    assert len(losses[0]) == 20 and losses[0][-1] < 0.8 * losses[0][0]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)


@pytest.mark.full
def test_vit_is_trained_in_shards_with_blocks_computed_again(
        folder, shapes_root, tmp_path):
    losses = [
        train(folder / 'base.py', shapes_root / 'imagenet',
              tmp_path / f'{count}', count,
              f'train_dataloader.batch_size={24 // count}', *options)
        for count, options in ((1, []), (2, [
            SHARDED,
            'activation_checkpointing=[backbone.layers.0,backbone.layers.1]'
        ]))
    ]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)


DEEPSPEED = '''
_base_ = 'base.py'
runner_type = 'mmengine.FlexibleRunner'
strategy = dict(
    type='DeepSpeedStrategy',
    config=dict(zero_allow_untested_optimizer=True),
    zero_optimization=dict(stage=3),
    gradient_clipping=0.7,
    train_micro_batch_size_per_gpu=12)
'''
HOST_SCHEDULE = '''
default_hooks = dict(
    param_scheduler=dict(_delete_=True, type='ParamSchedulerHook'))
param_scheduler = [dict(
    type='LinearLR', start_factor=0.1, end=4, convert_to_iter_based=True)]
optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type='AdamW', lr=1.5e-3, weight_decay=0.05),
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
'''


@pytest.mark.full
def test_deepspeed_gives_the_losses_of_one_process(folder, shapes_root,
                                                   tmp_path, monkeypatch):
    pytest.importorskip('deepspeed', reason='an extra that no test brings')
    monkeypatch.setenv('DS_ACCELERATOR', 'cpu')
    (folder / 'one.py').write_text("_base_ = 'base.py'" + HOST_SCHEDULE +
                                   'clip_grad=dict(max_norm=0.7))')
    (folder / 'zero.py').write_text(DEEPSPEED + HOST_SCHEDULE +
                                    "type='DeepSpeedOptimWrapper')")
    losses = [
        train(folder / f'{name}.py', shapes_root / 'imagenet', tmp_path / name,
              count, f'train_dataloader.batch_size={24 // count}')
        for name, count in (('one', 1), ('zero', 2))
    ]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)


@pytest.mark.full
def test_config_may_name_another_runner(folder, shapes_root, tmp_path):
    (folder / 'flexible.py').write_text(
        "_base_ = 'base.py'\nrunner_type = 'mmengine.FlexibleRunner'")
    losses = []
    for name in 'base', 'flexible':
        command('train', folder / f'{name}.py', '--work-dir', tmp_path / name,
                '--data-root', shapes_root / 'imagenet', '--cfg-options',
                'train_dataloader.batch_size=24')
        losses.append(logged_losses(tmp_path / name))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)


def test_network_without_such_blocks_is_refused():
    with pytest.raises(ValueError, match='blocks=.block.: set .* are layers,'):
        sharding_units(MODELS.build(dict(type='mmfd.StudentViT')), 'block')


def test_weight_of_two_modules_is_refused():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model.backbone[1].weight = model.backbone[0].weight
    with pytest.raises(
            ValueError,
            match='backbone.0.weight and backbone.1.weight are one weight'):
        FullySharded(model)


def test_giant_is_built_without_memory_for_its_weights():
    model = Config.fromfile('configs/fd/swinv2g_fd.py').model
    model.teacher.checkpoint = 'random'
    with DefaultScope.overwrite_default_scope('mmpretrain'), weightless():
        model = MODELS.build(model)
    for network in model.backbone, model.teacher.backbone:
        weights = [*network.parameters()]
        assert sum(w.numel() for w in weights) == 2_997_843_680
        assert all(w.is_meta for w in weights)
        assert not any(b.is_meta for b in network.buffers())
        assert len(sharding_units(network, BLOCKS)) == 2 + 2 + 42 + 4
