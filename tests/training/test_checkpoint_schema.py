"""A run goes on from what fits it; all else is refused in one message.

    PYTHONPATH=tests python tests/training/test_checkpoint_schema.py SECONDS

gives as many random checkpoints to `--resume` as there is time for.
"""
import copy
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from helpers import tiny_runs
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.training import optimizer_schema, schema
from mmfd.weights.mmengine_reader import load_for_mmengine

SCHEDULES = dict(
    default_hooks=dict(
        param_scheduler=dict(_delete_=True, type='ParamSchedulerHook')),
    param_scheduler=[
        dict(type='LinearLR', start_factor=.1, by_epoch=False, end=3),
        dict(type='MultiStepLR', milestones=[1, 3])
    ],
    optim_wrapper=dict(optimizer=dict(fused=True)))
CONSTANT = dict(default_hooks=dict(param_scheduler=None))
KINDS = dict(ours={}, host=SCHEDULES, constant=CONSTANT)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """Kind -> path of a checkpoint after one of two epochs."""
    return save(tmp_path_factory.mktemp('saved'))


def save(folder):
    for kind, changes in KINDS.items():
        tiny_runs.run(tiny_runs.config(folder / kind, **changes))
    return {kind: folder / kind / 'epoch_1.pth' for kind in KINDS}


def resume(path, work_dir, kind, **changes):
    cfg = tiny_runs.config(
        work_dir, resume=True, load_from=str(path), **KINDS[kind])
    cfg.merge_from_dict(changes)
    return tiny_runs.run(cfg)


def refused(path, folder, **options):
    """The message of a resume that is refused; nothing is written."""
    with pytest.raises(Refused) as error:
        resume(path, folder / 'run', **options)
    assert not (folder / 'run').exists()
    return str(error.value)


@pytest.mark.parametrize('kind', KINDS)
def test_run_resumed_in_another_folder_is_the_run_never_stopped(
        saved, tmp_path, kind):
    origin = saved[kind].parent
    before = {f.name: f.read_bytes() for f in origin.glob('*.pth')}
    resume(saved[kind], tmp_path / 'fork', kind)
    assert {f.name: f.read_bytes() for f in origin.glob('*.pth')} == before
    ours, theirs = (
        load_for_mmengine(folder / 'epoch_2.pth')
        for folder in (tmp_path / 'fork', origin))
    for state in ours, theirs:
        state['moments'] = state['optimizer']['state']
    for key in 'state_dict', 'ema_state_dict', 'moments':
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0)
    assert ours['meta']['run'] != theirs['meta']['run']
    assert ours['meta']['hooks'] == ['EMAHook']


WRONG = [  # where in the checkpoint, what is put there, what is said
    ('meta.iter', -5, "meta.iter is -5, expected was a whole number, 0 or mo"),
    ('meta.iter', 9, 'meta.iter is 9, expected was 4 to 8, in epoch 1 of 4'),
    ('meta.iter', True, 'meta.iter is True'),
    ('meta.epoch', 'x', "meta.epoch is 'x'"),
    ('meta.epoch_length', 0, 'meta.epoch_length is 0'),
    ('meta.epoch_length', 'a', "meta.epoch_length is 'a'"),
    ('meta.seed', '5', "meta.seed is '5', expected was None or a whole"),
    ('meta.seed', 1 << 90, 'meta.seed is a number of many digits'),
    ('meta.hooks', 'EMAHook', "meta.hooks is 'EMAHook'"),
    ('meta.dataset_meta', [[]], None),
    ('meta.model', 5, 'meta.model is 5, expected was text'),
    ('meta.outdated', [5], 'meta.outdated is a list of 1'),
    ('meta.outdated', ['../../epoch_1.pth', '\0', ''], None),
    ('meta.early_stopping', dict(loss=dict(waited=-1, best=0.)),
     'meta.early_stopping.loss.waited is -1'),
    ('meta.nan_guard', [1.], 'meta.nan_guard is a list of 1'),
    ('meta.nan_guard.losses', ['x'], 'meta.nan_guard.losses is a list of 1'),
    ('meta.nan_guard.skipped', .5, 'meta.nan_guard.skipped is 0.5'),
    ('meta.verdict', dict(seen=[1.], teacher=[1 << 70]),
     'meta.verdict.teacher is a list of 1, expected was a list of finite fr'),
    ('message_hub', [], 'message_hub is a list of 0, expected was a dict'),
    ('message_hub.runtime_info', None, 'message_hub.runtime_info is None'),
    ('message_hub.runtime_info.best_score', [1], 'best_score is a list of 1'),
    ('message_hub.runtime_info.keep_ckpt_ids', ['../../x'], 'keep_ckpt_ids'),
    ('message_hub.runtime_info.evaluated', 'x', 'evaluated'),
    ('message_hub.runtime_info.evaluated', 2,
     'evaluated is 2, expected was 0 to 1, the epochs done'),
    ('meta.parameters', ['linear.weight'],
     "meta.parameters is a list of 1, expected was the names of this run's"),
    ('message_hub.log_scalars.train/loss', [1.],
     'a list of 1, expected was a l'),
    ('message_hub.resumed_keys.train/loss', False, 'True, as it is there'),
    ('optimizer', {}, 'optimizer.'),
    ('optimizer', 5, 'optimizer is 5'),
    ('optimizer.param_groups', [], 'optimizer.param_groups is a list of 0'),
    ('optimizer.state.3.exp_avg', torch.ones(3),
     r'optimizer.state.3.exp_avg is a tensor \(3,\) of float32, expected was '
     r'a tensor \(3, 4\) of finite floats in float32 or finer, as linear.we'),
    ('optimizer.state.3.exp_avg', torch.ones(3, 4, dtype=torch.half),
     'of float16, expected was .* in float32 or'),
    ('optimizer.state.3.exp_avg', torch.full(
        (3, 4),
        float('nan')), r'a tensor \(3, 4\) of float32 that are not finite'),
    ('optimizer.state.3.exp_avg', torch.ones(3, 4, dtype=torch.int32), 'int3'),
    ('optimizer.state.3.exp_avg_sq', -torch.ones(3, 4), 'not below 0'),
    ('optimizer.state.3.step', 'x', "step is 'x'"),
    ('optimizer.state.99', {}, 'expected was nothing there'),
    ('optimizer.state.x', {}, 'keys that are int'),
    ('meta.unstepped', [3], 'meta.unstepped is a list of 1, expected was a'),
    ('ema_state_dict.steps', 'x', "ema_state_dict.steps is 'x'"),
    ('ema_state_dict.module.linear.bias', torch.ones(7), r'\(7,\)'),
    ('ema_state_dict.module.linear.bias', torch.ones(3, dtype=torch.bfloat16),
     'of bfloat16, expected was .* in float32 or finer, as linear.bias'),
    ('ema_state_dict.module.more', torch.ones(7), 'nothing there'),
    # honest: what NumPy computed
    ('optimizer.param_groups.0.lr', np.float64(0.1), None),
    ('meta.dataset_meta', dict(palette=np.zeros((2, 3), 'u1')), None),
    ('message_hub.runtime_info.flag', np.bool_(True), None),
]


def put(checkpoint, where, value):
    """Change an entry; names of weights have dots in them."""
    at, keys = checkpoint, where.split('.')
    if keys[0].endswith('state_dict'):
        keys = [keys[0], '.'.join(keys[1:])]
    for key in keys[:-1]:
        at = at[int(key) if key.isdecimal() else key]
    at[int(keys[-1]) if keys[-1].isdecimal() else keys[-1]] = value


@pytest.mark.parametrize('where, value, message', WRONG)
def test_what_does_not_fit_is_refused_by_its_name(saved, tmp_path, where,
                                                  value, message):
    checkpoint = load_for_mmengine(saved['ours'])
    put(checkpoint, where, value)
    file = tmp_path / 'a.pth'
    torch.save(checkpoint, file)
    if message is None:
        resume(file, tmp_path / 'run', 'ours')
        return
    said = refused(file, tmp_path, kind='ours')
    assert said.startswith(f'{file}: ') and re.search(message, said), said
    assert f'--cfg-options load_from={file}, without --resume' in said


@pytest.mark.parametrize('left, message', [
    ([], '3 is missing, expected was what the optimizer keeps for linear.'),
    ([{}], r'3.(step|exp_avg|exp_avg_sq) is missing'),
])
def test_moments_that_were_cut_out_are_missed(saved, tmp_path, left, message):
    checkpoint = load_for_mmengine(saved['ours'])
    assert checkpoint['meta']['unstepped'] == []
    moments = checkpoint['optimizer']['state']
    del moments[3]
    moments.update(zip([3], left))
    torch.save(checkpoint, tmp_path / 'a.pth')
    said = refused(tmp_path / 'a.pth', tmp_path, kind='ours')
    assert re.search(f'optimizer.state.{message}', said), said
    del checkpoint['meta']['unstepped']  # as of older runs
    torch.save(checkpoint, tmp_path / 'a.pth')
    resume(tmp_path / 'a.pth', tmp_path / 'older', 'ours')


@MODELS.register_module(force=True)
class PartlyUsedModel(tiny_runs.TinyModel):

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.unused = torch.nn.Linear(4, 3)
        self.norm.requires_grad_(False)


def test_parameters_that_never_had_a_gradient_have_no_moments(tmp_path):
    changes = dict(model=dict(type='PartlyUsedModel'))
    tiny_runs.run(tiny_runs.config(tmp_path, **changes))
    (tmp_path / 'epoch_2.pth').unlink()
    checkpoint = load_for_mmengine(tmp_path / 'epoch_1.pth')
    assert sorted(
        checkpoint['meta']['unstepped']) == ['unused.bias', 'unused.weight']
    assert len(checkpoint['optimizer']['state']) == 2  # norm is frozen
    runner = tiny_runs.run(tiny_runs.config(tmp_path, resume=True, **changes))
    assert runner.iter == 8


@MODELS.register_module(force=True)
class RandomTargetModel(tiny_runs.TinyModel):

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.hidden = (torch.rand(3), )  # in no checkpoint, as a teacher


@pytest.mark.parametrize('seed', [None, 5])
def test_what_a_run_draws_at_its_start_is_drawn_again(tmp_path, seed):
    changes = dict(model=dict(type='RandomTargetModel'))
    cfg = tiny_runs.config(tmp_path, randomness=dict(seed=None), **changes)
    drawn, = tiny_runs.run(cfg).model.hidden
    cfg = tiny_runs.config(
        tmp_path, resume=True, randomness=dict(seed=seed), **changes)
    again, = tiny_runs.run(cfg).model.hidden
    assert torch.equal(drawn, again)


@MODELS.register_module(force=True)
class MaskedModel(tiny_runs.TinyModel):

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.register_buffer('mask', torch.full((4, 4), -torch.inf).triu(1))


def test_weights_that_are_not_finite_are_no_start_for_another_run_either(
        saved, tmp_path):
    checkpoint = load_for_mmengine(saved['ours'])
    put(checkpoint, 'state_dict.linear.weight', torch.full((3, 4),
                                                           float('inf')))
    torch.save(checkpoint, tmp_path / 'a.pth')
    assert refused(
        tmp_path / 'a.pth', tmp_path, kind='ours') == (
            f'{tmp_path}/a.pth: linear.weight has numbers that are not finite,'
            ' as after a run that diverged: give an earlier file')


def test_unusual_run_is_resumed(tmp_path):
    """With a mask of infinite numbers and a seed of 32 bits."""
    changes = dict(
        model=dict(type='MaskedModel'),
        randomness=dict(seed=3_000_000_000),
        default_hooks=dict(
            numbers=dict(_delete_=True, type='mmfd.ProvenanceHook')))
    tiny_runs.run(tiny_runs.config(tmp_path, **changes))
    (tmp_path / 'epoch_2.pth').unlink()
    runner = tiny_runs.run(tiny_runs.config(tmp_path, resume=True, **changes))
    assert runner.iter == 8


def test_schedule_that_is_a_function_goes_on_where_it_was(tmp_path):
    changes = dict(
        SCHEDULES,
        param_scheduler=[
            dict(type='OneCycleLR', eta_max=.1, total_steps=8, by_epoch=False)
        ])
    whole = tiny_runs.run(tiny_runs.config(tmp_path, **changes))
    (tmp_path / 'epoch_2.pth').unlink()
    again = tiny_runs.run(tiny_runs.config(tmp_path, resume=True, **changes))
    assert again.iter == whole.iter == 8
    assert again.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
    assert torch.equal(again.model.linear.weight, whole.model.linear.weight)


@pytest.mark.parametrize('noted', [True, False])
@pytest.mark.parametrize('before', KINDS)
@pytest.mark.parametrize('now', KINDS)
def test_run_is_not_resumed_with_another_schedule(saved, tmp_path, before, now,
                                                  noted):
    names = dict(
        ours='mmfd.WarmupCosineHook',
        host='param_scheduler',
        constant='nothing')
    checkpoint = load_for_mmengine(saved[before])
    assert checkpoint['meta']['schedule'] == names[before]
    if before == now or not noted and before != 'host':
        return
    if not noted:  # as before runs noted it
        del checkpoint['meta']['schedule']
    torch.save(checkpoint, tmp_path / 'a.pth')
    said = refused(tmp_path / 'a.pth', tmp_path, kind=now)
    assert (f'{names[before]} set the learning rate, in this run {names[now]} '
            'does') in said


@pytest.mark.parametrize('setting', ['save_optimizer', 'save_param_scheduler'])
def test_what_a_run_leaves_out_of_checkpoints_is_said_before_and_after(
        tmp_path, capfd, setting):
    cfg = tiny_runs.config(tmp_path / 'before', **SCHEDULES)
    cfg.default_hooks.checkpoint[setting] = False
    cfg.log_level = 'WARNING'
    tiny_runs.run(cfg)
    name = f'default_hooks.checkpoint.{setting}=False'
    said = ''.join(capfd.readouterr())
    assert said.count(f'{name}: no run can go on from epoch_N.pth, only') == 1
    said = refused(tmp_path / 'before/epoch_1.pth', tmp_path, kind='host')
    assert name in said and 'load_from=' in said


@pytest.mark.parametrize('state, message', [
    (dict(step=5), 'step is 5, expected was nothing there'),
    (dict(last_step='x'), "last_step is 'x', expected was a finite number"),
    (dict(param_name='eps'), "param_name is 'eps', expected was 'lr'"),
    (dict(base_values=[]), 'base_values is a list of 0, expected was a list'),
])
def test_schedule_that_covers_a_method_or_is_none_is_refused(
        saved, tmp_path, state, message):
    checkpoint = load_for_mmengine(saved['host'])
    checkpoint['param_schedulers'][0].update(state)
    torch.save(checkpoint, tmp_path / 'a.pth')
    said = refused(tmp_path / 'a.pth', tmp_path, kind='host')
    assert f'param_schedulers[0].{message}' in said


def test_how_a_step_is_computed_is_taken_from_the_run(saved, tmp_path):
    checkpoint = load_for_mmengine(saved['host'])
    for group in checkpoint['optimizer']['param_groups']:
        group.update(capturable=True, amsgrad=True, fused=None, foreach=True)
    torch.save(checkpoint, tmp_path / 'a.pth')
    runner = resume(tmp_path / 'a.pth', tmp_path / 'run', 'host')
    assert {(g['capturable'], g['amsgrad'], g['fused'], g['foreach'])
            for g in runner.optim_wrapper.optimizer.param_groups
            } == {(False, False, True, None)}


def test_average_is_not_resumed_without_its_hook_nor_begun(saved, tmp_path):
    message = refused(saved['ours'], tmp_path, kind='ours', custom_hooks=[])
    assert "add dict(type='EMAHook')" in message
    without = tmp_path / 'without'
    tiny_runs.run(tiny_runs.config(without, custom_hooks=[]))
    message = refused(without / 'epoch_1.pth', tmp_path, kind='ours')
    assert 'take it out of custom_hooks' in message
    checkpoint = load_for_mmengine(saved['ours'])
    del checkpoint['meta']['hooks']  # as older runs
    torch.save(checkpoint, tmp_path / 'a.pth')
    resume(tmp_path / 'a.pth', tmp_path / 'older', 'ours')
    assert 'EMAHook' in refused(
        tmp_path / 'a.pth', tmp_path, kind='ours', custom_hooks=[])


OPTIMIZERS = [
    ('SGD', dict(lr=.1)),
    ('SGD', dict(lr=.1, momentum=.9)),
    ('AdamW', dict(lr=.1, fused=True)),
    ('AdamW', dict(lr=.1, amsgrad=True)),
    ('RMSprop', dict(lr=.1, centered=True)),
    ('Adagrad', dict(lr=.1)),
    ('Adafactor', dict(lr=.1)),
]


@pytest.mark.parametrize('name, settings', OPTIMIZERS)
def test_state_of_any_optimizer_fits_and_a_damaged_one_does_not(
        name, settings):
    """Also of several optimizers: an OptimWrapperDict."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    optimizer = getattr(torch.optim, name)(model.parameters(), **settings)
    wrapper = OptimWrapperDict(a=OptimWrapper(optimizer))
    description = optimizer_schema.optimizer_state(wrapper, {})
    for _ in range(3):
        schema.check(wrapper.state_dict(), description, 'a', '')
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    state = copy.deepcopy(wrapper.state_dict())
    kept = state['a']['state'].get(0, {})
    for key, value in [*kept.items()]:
        for wrong in 'x', torch.ones(3, 7):
            kept[key] = wrong
            with pytest.raises(Refused, match=rf'a: a.state.0.{key} is'):
                schema.check(state, description, 'a', '')
        kept[key] = value


def test_optimizer_is_asked_what_it_keeps_and_stays_as_it_is():
    param = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([param], lr=1.)
    called = []
    optimizer.register_step_pre_hook(lambda *_: called.append(1))
    optimizer.step = called.append
    optimizer_schema.optimizer_state(OptimWrapper(optimizer), {})
    assert not called and not optimizer.state and param.grad is None
    assert optimizer.param_groups[0]['params'] == [param]


# --- random checkpoints ---

STRANGE = [
    None, True, -1, 0, 1 << 70, .5,
    float('nan'),
    float('inf'), 'x', '', '../../x', b'x', [], [1], ['a'], {}, {
        'a': 1
    }, {
        1: 2
    }, (),
    torch.ones(3),
    torch.ones(()),
    torch.full((3, 4), float('nan')),
    torch.ones(3, 4, dtype=torch.int8),
    torch.ones(3, 4, dtype=torch.bool),
    torch.ones(3, 4, dtype=torch.complex64),
    torch.ones(0)
]


def entries(node, above=()):
    """(containers above, key) of every entry of a checkpoint."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in [*pairs]:
        yield node, key
        if isinstance(value, (dict, list)) and key != 'cfg':
            yield from entries(value)


def mutate(checkpoint, draw):
    """Change one to three entries: their names, types, shapes, values."""
    for _ in range(draw.randint(1, 3)):
        places = [*entries(checkpoint)]
        top = [place for place in places if place[0] is checkpoint]
        node, key = draw.choice(draw.choice([places, places, places, top]))
        value, kind = node[key], draw.randrange(6)
        if kind == 0:
            del node[key]
        elif kind == 1 and isinstance(node, dict):
            node[draw.choice(['x', 'params', 7, None, 'lr'])] = node.pop(key)
        elif kind == 2 and torch.is_tensor(value):
            node[key] = draw.choice([
                value.double(),
                value.flatten()[:1],
                value.unsqueeze(0), -value * float('inf'),
                value.half(), -value
            ])
        elif kind == 3:
            node[key] = copy.deepcopy(draw.choice(places)[0])
        elif kind == 4 and type(value) in (int, float):
            node[key] = draw.choice(
                [-value, value + 1, value * 1e9, value / 3])
        else:
            node[key] = copy.deepcopy(draw.choice(STRANGE))


def fuzz(saved, seconds, seed=0):
    """Resume from as many random checkpoints as there is time for.

    Returns:
        Counter: how many were `refused` and how many `resumed`.
    """
    counts, end = Counter(), time.monotonic() + seconds
    while time.monotonic() < end:
        draw = Random(seed + sum(counts.values()))
        kind = draw.choice([*KINDS])
        checkpoint = load_for_mmengine(saved[kind])
        mutate(checkpoint, draw)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, 'a.pth')
            torch.save(checkpoint, file)
            try:
                resume(file, f'{folder}/run', kind)
                counts['resumed'] += 1
            except Refused as error:
                assert str(file) in str(error), error
                counts['refused'] += 1
            except BaseException:
                print(f'seed {seed + sum(counts.values())}', flush=True)
                raise
    return counts


def test_random_checkpoints_are_resumed_or_refused(saved):
    assert sum(fuzz(saved, seconds=4).values()) > 1  # where a CPU is shared


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as made:
        print(
            fuzz(
                save(Path(made)), float(sys.argv[1]), *map(int, sys.argv[2:])))
