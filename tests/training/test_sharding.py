"""A sharded run equals that of one process, and no process has all weights."""
import json
import os
import re

import pytest
import torch
from helpers import runs
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmfd.training.sharding import BLOCKS, FullySharded, sharding_units
from mmfd.weights import checkpoints
from mmfd.weights.meta_device import weightless

VIT = '''
_base_ = '{repo}/configs/demo/simclr_fd.py'
model = dict(backbone=dict(drop_path_rate=0.))
resize = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=48, backend='pillow'),
    dict(type='mmpretrain.PackInputs')]
loader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{root}/imagenet', pipeline=resize))
train_dataloader = dict(loader, batch_size=12)
val_dataloader = dict(loader, batch_size=7)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)  # 20 updates, 120 images
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
'''
SWIN = '''
_base_ = 'vit.py'
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
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2))
'''
SHARDED = 'model_wrapper_cfg.type=mmfd.FullySharded'
HALF = 'train_dataloader.batch_size=6'  # of a process of two

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

def local_size(network):
    return sum(p.to_local().numel() for p in network.parameters())

cfg = Config.fromfile(sys.argv[1])
processes.join('pytorch')
with DefaultScope.overwrite_default_scope('mmpretrain'):
    torch.manual_seed(distributed.get_rank())
    model = ShardedRunner.__new__(ShardedRunner).build_model(cfg.model)
initial = {k: v.clone() for k, v in model.state_dict().items()}
networks = [model, *teacher_backbones(model)]
built = sum(not p.is_meta for n in networks for p in n.parameters())
FullySharded(model)
state = model.state_dict()
gathered = [k for k, v in state.items() if not v.is_meta]
result = dict(
    built=built,
    student=local_size(model), teacher=local_size(model.teacher.backbone),
    gathered=len(gathered), keys=state.keys() == initial.keys(),
    equal=all(torch.equal(state[k], initial[k]) for k in gathered))
model.teacher(torch.zeros(1, 3, 64, 64))
result['copies'] = len(model.teacher.copies())
with open(f'{sys.argv[2]}/{distributed.get_rank()}.json', 'w') as f:
    json.dump(result, f)
'''


def train(config, work_dir, *arguments, processes=1, options=()):
    """Losses of a run, sharded over its processes if there are several."""
    sharded = (SHARDED, HALF) if processes > 1 else ()
    runs.run(
        config,
        work_dir,
        *arguments,
        processes=processes,
        options=(*sharded, *options),
        seconds=900)  # beside other work, too
    return torch.tensor(runs.losses(work_dir))


@pytest.fixture(scope='module')
def folder(tmp_path_factory, shapes_root):
    """Configs of a ViT and a Swin V2."""
    folder = tmp_path_factory.mktemp('sharding')
    (folder / 'vit.py').write_text(
        VIT.format(repo=os.getcwd(), root=shapes_root))
    (folder / 'swin.py').write_text(SWIN.format(width=16, depths=[1, 1, 6, 1]))
    return folder


@pytest.fixture(scope='module')
def config(folder):
    return folder / 'swin.py'


@pytest.fixture(scope='module')
def alone(config):
    """Work dir and losses of the run that all others must equal."""
    work_dir = config.parent / 'alone'
    losses = train(config, work_dir)
    assert len(losses) == 20 and losses[-1] < 0.8 * losses[0]
    return work_dir, losses


@pytest.fixture(scope='module')
def sharded(config):
    """The same in two processes, with activation checkpointing."""
    work_dir = config.parent / 'sharded'
    return work_dir, train(
        config, work_dir, processes=2, options=['model.backbone.with_cp=True'])


def assert_close(ours, theirs):
    """Tensors by name are equal but for rounding, relative to their norm.

    Not element by element: AdamW divides by the size of the gradient, which
    is almost zero where a norm begins with zero weights, as FD's Swin V2 has
    them, and there each element's rounding becomes visible: a gradient of
    1e-8 is mostly that.
    """
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        error = torch.dist(ours[name].float(), value.float())
        assert error <= 1e-2 * value.float().norm(), name


def norms(work_dir):
    """Gradient norms before clipping, as logged."""
    return torch.tensor([
        line['grad_norm'] for line in runs.lines(work_dir)
        if 'grad_norm' in line
    ])


def test_losses_and_gradient_norms_equal_those_of_one_process(alone, sharded):
    torch.testing.assert_close(sharded[1], alone[1], rtol=1e-5, atol=0)
    assert norms(alone[0]).max() > 0.7 > norms(alone[0]).min()  # some clipped
    torch.testing.assert_close(
        norms(sharded[0]), norms(alone[0]), rtol=1e-5, atol=0)


def test_checkpoint_is_that_of_one_process(alone, sharded):
    files = [{file.name
              for file in work_dir.glob('*.pth')}
             for work_dir, _ in (alone, sharded)]
    assert files[0] == files[1] >= {'epoch_1.pth', 'epoch_2.pth'}
    theirs, ours = (checkpoints.load(work_dir / 'epoch_2.pth')
                    for work_dir, _ in (alone, sharded))
    assert ours.keys() == theirs.keys()
    assert ours['meta'].keys() == theirs['meta'].keys() >= {'model'}
    assert {type(v) for v in ours['state_dict'].values()} == {torch.Tensor}
    groups = theirs['optimizer']['param_groups']
    assert ours['optimizer']['param_groups'] == groups
    assert len(groups) > 10  # one for each layer
    assert_close(ours['state_dict'], theirs['state_dict'])
    ours, theirs = (state['optimizer']['state'] for state in (ours, theirs))
    assert ours.keys() == theirs.keys()
    for number in theirs:
        assert_close(ours[number], theirs[number])


def test_sharded_run_resumes_where_one_process_stopped(config, alone,
                                                       tmp_path):
    train(
        config,
        tmp_path / 'run',
        '--resume',
        alone[0] / 'epoch_1.pth',
        processes=2)
    assert 'resumed epoch: 1' in runs.log(tmp_path / 'run')
    assert_close(*(checkpoints.load(work_dir / 'epoch_2.pth')['state_dict']
                   for work_dir in (tmp_path / 'run', alone[0])))


def evaluation(log):
    """The metrics of the last evaluation in a log."""
    return re.findall(r'(knn/top1|held_out/loss): ([\d.]+)', log)[-2:]


def test_one_process_evaluates_what_two_have_trained(config, alone, sharded):
    log = runs.run(
        config, sharded[0] / 'test', sharded[0] / 'epoch_2.pth', tool='test')
    assert len(evaluation(log)) == 2
    for work_dir, _ in alone, sharded:
        assert evaluation(runs.log(work_dir)) == evaluation(log)


@pytest.mark.full
def test_dry_run_of_shards_reports_once(config, tmp_path):
    train(config, tmp_path / 'run', '--dry-run', processes=2)
    log = runs.log(tmp_path / 'run')
    assert '6 x 2 processes x 1 accumulated = 12 images an update' in log
    assert log.count('10 iterations of 20 done') == 1
    assert 'parameters are not finite' not in log
    assert not (tmp_path / 'run').exists()


def test_only_the_first_process_ever_has_all_weights(config, tmp_path):
    (tmp_path / 'script.py').write_text(SCRIPT)
    runs.together(
        2, tmp_path / 'script.py', config, tmp_path, log=tmp_path / 'log')
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
@pytest.mark.parametrize('option, rtol', [
    ('model_wrapper_cfg.shard_teacher=False', 1e-5),
    ('model_wrapper_cfg.param_dtype=bfloat16', 2e-2),
])
def test_other_ways_to_shard_give_the_same_losses(config, alone, tmp_path,
                                                  option, rtol):
    losses = train(config, tmp_path / 'run', options=[option], processes=2)
    torch.testing.assert_close(losses, alone[1], rtol=rtol, atol=0)


@pytest.mark.full
def test_accumulated_shards_give_the_same_losses(config, alone, tmp_path):
    losses = train(
        config,
        tmp_path / 'run',
        options=[
            'train_dataloader.batch_size=3',
            'optim_wrapper.accumulative_counts=2'
        ],
        processes=2)
    torch.testing.assert_close(
        losses.view(-1, 2).mean(1), alone[1], rtol=1e-5, atol=0)


@pytest.mark.full
def test_hundredth_of_the_giant_is_trained_in_shards(folder, tmp_path):
    """Its depths and norms at 3/32 of its width: 26 million parameters."""
    config = folder / 'hundredth.py'
    config.write_text(SWIN.format(width=48, depths=[2, 2, 42, 4]))
    theirs = train(config, tmp_path / '1')
    ours = train(
        config,
        tmp_path / '2',
        options=['model.backbone.with_cp=True'],
        processes=2)
    assert len(theirs) == 20 and theirs[-1] < 0.8 * theirs[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


@pytest.mark.full
def test_vit_is_trained_in_shards_with_activation_checkpointing(
        folder, tmp_path):
    theirs = train(folder / 'vit.py', tmp_path / '1')
    ours = train(
        folder / 'vit.py',
        tmp_path / '2',
        options=[
            'activation_checkpointing=[backbone.layers.0,backbone.layers.1]'
        ],
        processes=2)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


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
