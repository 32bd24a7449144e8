"""A run that was stopped and resumed equals one that was never stopped."""
import json
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import (CONFIG, TIMES, curves, final, finish, kill, log, run,
                          start, wait_for)
from helpers.shards import write_parquets, write_tars
from mmengine.config import Config
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator

from mmfd.training.last_checkpoint import last_valid_checkpoint
from mmfd.weights.mmengine_reader import load_for_mmengine


@pytest.fixture(scope='module')
def unbroken(config):
    """The run that is never stopped."""
    work_dir = config.parent / 'unbroken'
    run(config, work_dir)
    assert len(curves(work_dir)) == 12 + 2 + 1
    return work_dir


def assert_same(work_dir, unbroken, last='epoch_3.pth'):
    theirs, ours = curves(unbroken), curves(work_dir)
    assert ours.keys() == theirs.keys()
    for step, values in ours.items():
        for value in values:  # some steps were repeated
            assert value == theirs[step][0], step
    ours, theirs = final(work_dir, last), final(unbroken, last)
    for state in ours, theirs:
        groups = state['optimizer'].pop('param_groups')
        assert groups == theirs['optimizer'].get('param_groups', groups)
    for key in {'state_dict', 'ema_state_dict', 'optimizer'} & theirs.keys():
        torch.testing.assert_close(
            ours[key], theirs[key], rtol=0, atol=0, msg=key)
    for key in {'nan_guard', 'verdict'} & theirs['meta'].keys():
        assert ours['meta'][key] == theirs['meta'][key]
    assert history(work_dir / last) == history(unbroken / last)
    ours, theirs = ({file.name
                     for file in folder.glob('*.pth')}
                    for folder in (work_dir, unbroken))
    assert theirs <= ours
    # a kill after a checkpoint was written leaves the one that it replaces
    assert all(name.startswith('epoch_') for name in ours - theirs)


def history(checkpoint):
    """The curves that a checkpoint has kept, name -> values."""
    hub = load_for_mmengine(checkpoint)['message_hub']
    return {
        name: curve.data[0].tolist()
        for name, curve in hub['log_scalars'].items()
        if name.split('/')[1] not in TIMES
    }


def moments(work_dir, process, draw):
    """Functions that wait for a moment to kill the run in."""
    before = log(work_dir)

    def logged(text, times):
        return lambda: log(work_dir).count(text) >= before.count(text) + times

    def in_an_epoch():
        wait_for(logged('Epoch(train)', draw.randint(1, 4)), process)
        time.sleep(draw.uniform(0, 0.2))

    yield in_an_epoch
    yield lambda: wait_for(lambda: [*work_dir.glob('*.part')], process)
    yield lambda: wait_for(logged('Epoch(val)', 1), process)


def kill_and_resume(config, work_dir, kills, options=()):
    """How often the run was still alive when it was killed."""
    draw, killed = random.Random(kills), 0
    process = start(config, work_dir, options=options)
    for number in range(kills):
        [*moments(work_dir, process, draw)][number % 3]()
        killed += kill(process)
        workers = draw.randrange(3)
        process = start(
            config,
            work_dir,
            '--resume',
            options=(f'train_dataloader.num_workers={workers}',
                     f'train_dataloader.persistent_workers={workers > 0}',
                     *options))
    finish(process, work_dir, seconds=600)
    return killed


# Of 5 iterations an epoch, 3 make an update; all that counts iterations
COUNTERS = """
_base_ = '{config}'
train_dataloader = dict(batch_size=24)
optim_wrapper = dict(accumulative_counts=3)
train_cfg = dict(max_epochs={epochs}, val_interval=2)
default_hooks = dict(
    monitor=dict(interval=2, images=4), throughput=dict(interval=2))
custom_hooks = [dict(type='EMAHook', ema_type='MomentumAnnealingEMA', gamma=9)]
"""


def assert_killed_runs_are_the_run_never_killed(config, folder, kills, epochs):
    file = folder / 'counters.py'
    file.write_text(COUNTERS.format(config=config, epochs=epochs))
    unbroken, work_dir = folder / 'unbroken', folder / 'run'
    run(file, unbroken)
    logged = Counter(kind for kind, _ in curves(unbroken))
    assert logged == dict(
        train=3 * epochs, val=epochs // 2, monitor=1 + 3 * epochs // 2)
    killed = kill_and_resume(file, work_dir, kills)
    assert killed >= kills - 1  # the last one may come too late
    assert_same(work_dir, unbroken, f'epoch_{epochs}.pth')
    state = final(work_dir, f'epoch_{epochs}.pth')
    assert state['ema_state_dict']['steps'] == 3 * epochs
    steps = {int(s['step']) for s in state['optimizer']['state'].values()}
    assert steps == {epochs}


def test_run_killed_anywhere_and_resumed_is_the_run_never_killed(
        config, tmp_path):
    assert_killed_runs_are_the_run_never_killed(config, tmp_path, 3, 4)


# 80 images in tars and 40 in Parquet, of which two come for one of the others
SHARDS = """
_base_ = '{config}'
train_dataloader = dict(
    sampler=dict(shards_at_once=2, weights=[1, 2]),
    dataset=dict(data_root=['{folder}/tars', '{folder}/parquets'], held_out=0))
"""


@pytest.mark.parametrize('kills, epochs', [
    (1, 4),
    pytest.param(10, 14, marks=pytest.mark.full),
])
def test_run_over_shards_killed_and_resumed_is_the_run_never_killed(
        config, shapes_root, tmp_path, kills, epochs):
    paths = sorted(Path(shapes_root, 'imagenet/train').rglob('*.jpg'))
    images = {f'{i:03}.jpg': path.read_bytes() for i, path in enumerate(paths)}
    names = [*images]
    assert len(names) == 120
    write_tars(tmp_path / 'tars', {n: images[n] for n in names[:80]}, 16)
    write_parquets(tmp_path / 'parquets', {n: images[n]
                                           for n in names[80:]}, 20)
    file = tmp_path / 'shards.py'
    file.write_text(SHARDS.format(config=config, folder=tmp_path))
    assert_killed_runs_are_the_run_never_killed(file, tmp_path, kills, epochs)
    [line] = {
        line.partition('train: ')[2]
        for line in log(tmp_path / 'run').splitlines()
        if 'train: 120 images' in line
    }
    assert '/tars' in line and '/parquets, without labels' in line


@pytest.mark.full
def test_run_killed_thirty_times_is_the_run_never_killed(config, tmp_path):
    assert_killed_runs_are_the_run_never_killed(config, tmp_path, 30, 40)


TENSORBOARD = """
_base_ = '{config}'
custom_imports = dict(imports=['helpers.fault_hooks'])
default_hooks = dict(slow=dict(type='SlowIteration', iteration=5, seconds=3))
visualizer = dict(vis_backends=[
    dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
"""


@pytest.mark.parametrize('number', [
    signal.SIGTERM,
    signal.SIGINT,
    pytest.param(signal.SIGUSR1, marks=pytest.mark.full),
    pytest.param(signal.SIGHUP, marks=pytest.mark.full),
])
def test_signal_saves_and_exits_with_its_status(config, unbroken, tmp_path,
                                                number):
    work_dir, file = tmp_path / 'run', tmp_path / 'tensorboard.py'
    file.write_text(TENSORBOARD.format(config=config))
    process = start(
        file, work_dir, options=('default_hooks.checkpoint.minutes=None', ))
    assert wait_for(lambda: 'slow iteration' in log(work_dir), process)
    sent = time.monotonic()
    os.kill(process.pid, number)
    finish(process, work_dir, code=128 + number)
    assert time.monotonic() - sent < 30
    [done] = re.findall(rf'{number.name} ends this run after iteration (\d+)',
                        log(work_dir))
    last = Path(last_valid_checkpoint(work_dir)).name  # maybe of an epoch
    assert 2 < int(done) == final(work_dir, last)['meta']['iter'] < 12
    [events] = work_dir.rglob('events*')
    curve = EventAccumulator(str(events)).Reload().Scalars('loss')
    assert [point.step for point in curve] == [*range(1, int(done) + 1)]
    assert 'tensorboard --logdir' in run(file, work_dir, '--resume')
    assert_same(work_dir, unbroken)


def test_second_run_in_one_process_is_the_first_again(config, tmp_path):
    states = []
    for name in 'first', 'second':
        cfg = Config.fromfile(config)
        cfg.work_dir = str(tmp_path / name)
        cfg.experiment_name = name  # the host tells runs of one second by it
        cfg.train_cfg.max_epochs = 2
        Runner.from_cfg(cfg).train()
        states.append(final(tmp_path / name, 'epoch_2.pth'))
    first, second = curves(tmp_path / 'first'), curves(tmp_path / 'second')
    assert len(first) == 8 + 1 + 1 and first == second
    for key in 'state_dict', 'ema_state_dict':
        torch.testing.assert_close(
            states[0][key], states[1][key], rtol=0, atol=0, msg=key)


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
def test_resumed_fine_tuning_is_the_one_never_stopped(shapes_root, tmp_path,
                                                      name, optimizer):
    """RandAugment, erasing, mixup, batch norm, LARS, the loss scaler."""
    config = tmp_path / 'tune.py'
    config.write_text(
        FINE_TUNING.format(
            repo=os.getcwd(), root=shapes_root, name=name,
            optimizer=optimizer))
    unbroken, work_dir = tmp_path / 'unbroken', tmp_path / 'run'
    run(config, unbroken)
    process = start(config, work_dir)
    assert wait_for(lambda: '][2/4]' in log(work_dir), process)
    os.kill(process.pid, signal.SIGTERM)
    finish(process, work_dir, code=143)
    run(config,
        work_dir,
        '--resume',
        options=('train_dataloader.num_workers=1', ))
    assert_same(work_dir, unbroken)


LONG = '''
train_dataloader = dict(
    loader, batch_size=2, num_workers=1, persistent_workers=True,
    dataset=dict(loader['dataset'], pipeline=crop))
train_cfg = dict(max_epochs=334, val_interval=100)  # of 60 iterations
default_hooks = dict(
    logger=dict(interval=60),
    checkpoint=dict(minutes=0.5, max_keep_ckpts=2, interval=100))
custom_imports = dict(
    imports=['helpers.fault_hooks'], allow_failed_imports=False)
custom_hooks = [dict(type='Measure')]
'''


@pytest.mark.full
def test_memory_files_and_logs_of_a_long_run_are_bounded(
        tmp_path, shapes_root, capsys):
    config, work_dir = tmp_path / 'long.py', tmp_path / 'run'
    config.write_text(CONFIG.format(repo=os.getcwd(), root=shapes_root) + LONG)
    run(config, work_dir, seconds=1800)
    lines = [
        json.loads(line)
        for line in (work_dir / 'measured.json').read_text().splitlines()
    ]
    assert lines[-1]['iteration'] == 20_000
    settled = [line for line in lines if line['iteration'] > 10_000]
    at = [line['iteration'] for line in settled]
    slope = {
        who: np.polyfit(at, [line[who]['memory'] for line in settled], 1)[0]
        for who in ('main', 'worker')
    }
    files = {
        who: {line[who]['files']
              for line in settled}
        for who in ('main', 'worker')
    }
    log = sum(f.stat().st_size for f in work_dir.rglob('*')
              if f.is_file() and f.suffix != '.pth')
    with capsys.disabled():
        print(f'\nbytes an iteration: {slope}; open files: {files}; logs: '
              f'{log:,} bytes, {log / 334:.0f} a line')
    assert max(slope.values()) < 200  # 4 MB in all
    assert all(max(seen) - min(seen) < 4 for seen in files.values())
    assert log < 334 * 3000
