"""A run that was killed is the run that never was."""
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers.runs import (CONFIG, curves, final, finish, kill, log, start,
                          wait_for)

from mmfd.training.loop import last_whole


@pytest.fixture(scope='module')
def config(tmp_path_factory, shapes_root):
    file = tmp_path_factory.mktemp('resume') / 'fd.py'
    file.write_text(CONFIG.format(repo=os.getcwd(), root=shapes_root))
    return file


@pytest.fixture(scope='module')
def whole(config):
    """The run never killed."""
    run = config.parent / 'whole'
    finish(start(config, run), run)
    assert len(curves(run)) == 12 + 2
    return run


def assert_same(run, whole, last='epoch_3.pth'):
    theirs, ours = curves(whole), curves(run)
    assert ours.keys() == theirs.keys()
    for step, values in ours.items():
        for value in values:  # some steps were done more than once
            assert value == theirs[step][0], step
    ours, theirs = final(run, last), final(whole, last)
    for state in ours, theirs:
        groups = state['optimizer'].pop('param_groups')
        assert groups == theirs['optimizer'].get('param_groups', groups)
    for key in {'state_dict', 'ema_state_dict', 'optimizer'} & theirs.keys():
        torch.testing.assert_close(
            ours[key], theirs[key], rtol=0, atol=0, msg=key)
    assert ({f.name
             for f in run.glob('*.pth')
             } == {f.name
                   for f in whole.glob('*.pth')})


def moments(run, process, draw):
    """Ways to wait for a moment to kill in."""
    before = log(run)

    def logged(what, times):
        return lambda: log(run).count(what) >= before.count(what) + times

    def amid():
        wait_for(logged('Epoch(train)', draw.randint(1, 4)), process)
        time.sleep(draw.uniform(0, 0.2))

    yield amid
    yield lambda: wait_for(lambda: [*run.glob('*.part')], process)
    yield lambda: wait_for(logged('Epoch(val)', 1), process)


def kill_and_resume(config, run, kills, options=()):
    draw, killed = random.Random(kills), 0
    process = start(config, run, options=options)
    for number in range(kills):
        [*moments(run, process, draw)][number % 3]()
        killed += kill(process)
        workers = draw.randrange(3)
        process = start(
            config,
            run,
            '--resume',
            options=(f'train_dataloader.num_workers={workers}',
                     f'train_dataloader.persistent_workers={workers > 0}',
                     *options))
    finish(process, run, seconds=600)
    return killed


def test_run_killed_anywhere_and_resumed_is_the_run_never_killed(
        config, whole, tmp_path):
    assert kill_and_resume(config, tmp_path / 'run', kills=3) >= 2
    assert_same(tmp_path / 'run', whole)


@pytest.mark.full
def test_run_killed_twenty_times_is_the_run_never_killed(config, tmp_path):
    options = 'train_cfg.max_epochs=20',
    whole, run = tmp_path / 'whole', tmp_path / 'run'
    finish(start(config, whole, options=options), whole, seconds=600)
    assert kill_and_resume(config, run, 20, options) == 20
    assert_same(run, whole, 'epoch_20.pth')


@pytest.mark.parametrize('number', [
    signal.SIGTERM,
    pytest.param(signal.SIGUSR1, marks=pytest.mark.full),
])
def test_signal_saves_and_leaves_with_its_status(config, whole, tmp_path,
                                                 number):
    run = tmp_path / 'run'
    process = start(
        config, run, options=('default_hooks.checkpoint.minutes=None', ))
    assert wait_for(lambda: '][3/4]' in log(run), process)
    begun = time.monotonic()
    os.kill(process.pid, number)
    finish(process, run, code=128 + number)
    assert time.monotonic() - begun < 30
    [done] = re.findall(rf'{number.name} ends this run after iteration (\d+)',
                        log(run))
    last = Path(last_whole(run)).name  # maybe of a whole epoch
    assert 2 < int(done) == final(run, last)['meta']['iter'] < 12
    finish(start(config, run, '--resume'), run)
    assert_same(run, whole)


FINE_TUNING = """
_base_ = '{repo}/configs/classification/{name}.py'
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=32, num_layers=2, num_heads=2,
            feedforward_channels=64),
        img_size=32, patch_size=8, drop_path_rate=0.1, init_cfg=None),
    head=dict(in_channels=32, num_classes=10))
if 'neck' in _base_.model:
    model['neck'] = dict(input_features=32)
crop = _base_.train_dataloader.dataset.pipeline
crop[0].crop.scale = 32
resize = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=32),
    dict(type='mmpretrain.PackInputs')]
root = dict(data_root='{root}/imagenet')
train_dataloader = dict(
    batch_size=30, num_workers=2, dataset=dict(root, pipeline=crop))
val_dataloader = dict(
    batch_size=30, num_workers=0, persistent_workers=False,
    dataset=dict(root, pipeline=resize))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=3)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(minutes=None),
    param_scheduler=dict(warmup_epochs=0))
log_processor = dict(window_size=3)
optim_wrapper = {optimizer}
"""


@pytest.mark.full
@pytest.mark.parametrize('name, optimizer', [
    ('clip_vitb_fd_in1k', "dict(type='OptimWrapper')"),
    ('clip_vitb_fd_linear', "dict(type='OptimWrapper')"),
    ('clip_vitb_fd_in1k', "dict(dtype='float16')"),
])
def test_fine_tuning_goes_on_as_if_it_had_not_been_ended(
        shapes_root, tmp_path, name, optimizer):
    """RandAugment, erasing, mixup, batch norm, LARS, the loss scaler."""
    config = tmp_path / 'tune.py'
    config.write_text(
        FINE_TUNING.format(
            repo=os.getcwd(), root=shapes_root, name=name,
            optimizer=optimizer))
    whole, run = tmp_path / 'whole', tmp_path / 'run'
    finish(start(config, whole), whole)
    process = start(config, run)
    assert wait_for(lambda: '][2/4]' in log(run), process)
    os.kill(process.pid, signal.SIGTERM)
    finish(process, run, code=143)
    finish(
        start(
            config,
            run,
            '--resume',
            options=('train_dataloader.num_workers=1', )), run)
    assert_same(run, whole)
