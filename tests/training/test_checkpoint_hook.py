"""Checkpoints are complete or absent, and a run can be stopped at any time."""
import signal
from types import SimpleNamespace

import pytest
import torch
from helpers.runs import final, log, run
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper

from mmfd.training.checkpoint_hook import (AtomicBackend,
                                           ResumableCheckpointHook)


def test_replaced_file_is_removed_after_the_new_one_is_complete(tmp_path):
    files = AtomicBackend()
    old, new = tmp_path / 'epoch_1.pth', tmp_path / 'epoch_2.pth'
    files.put(b'old', old)
    files.remove(old)
    assert old.exists()
    with pytest.raises(IsADirectoryError):
        new.mkdir()
        files.put(b'new', new)
    assert {file.name
            for file in tmp_path.iterdir()} == {'epoch_1.pth', 'epoch_2.pth'}
    new.rmdir()
    files.put(b'new', new)
    files.remove_outdated()
    assert new.read_bytes() == b'new' and not old.exists()


@pytest.mark.parametrize('accumulation, sampler, message', [
    (3, 'DefaultSampler', 'an epoch is 4 iterations, and an update accumulates'
     ' 3, so checkpoints would be written within updates'),
    (5, 'mmfd.ResumableSampler', 'an epoch has 4 iterations of 30 images, and '
     'an update accumulates 5: lower optim_wrapper.accumulative_counts'),
])
def test_no_checkpoint_is_written_within_an_update(config, tmp_path,
                                                   accumulation, sampler,
                                                   message):
    output = run(
        config,
        tmp_path / 'run',
        options=(f'optim_wrapper.accumulative_counts={accumulation}',
                 f'train_dataloader.sampler.type={sampler}'),
        code=1)
    assert f'error: {message}' in output and 'Traceback' not in output
    assert not [*tmp_path.rglob('*.pth')]


def with_full_disk(config, tmp_path, epochs):
    """A config whose disk is full during some epochs."""
    file = tmp_path / 'full_disk.py'
    file.write_text(f"""
_base_ = '{config}'
custom_imports = dict(
    imports=['helpers.fault_hooks'], allow_failed_imports=False)
custom_hooks = [dict(type='FullDisk', epochs={epochs})]
""")
    return file


def names(work_dir):
    return sorted(file.name for file in work_dir.glob('*.pth*'))


def test_full_disk_stops_before_the_last_good_checkpoint_is_touched(
        config, tmp_path):
    work_dir = tmp_path / 'run'
    output = run(
        with_full_disk(config, tmp_path, [1, 2]),
        work_dir,
        options=('default_hooks.checkpoint.minutes=None',
                 'default_hooks.checkpoint.max_keep_ckpts=1'),
        code=1)
    assert (f'error: no checkpoint could be written to {work_dir}: File too '
            f'large; the last valid one is {work_dir}/epoch_1.pth') in output
    assert 'Traceback' not in output
    assert names(work_dir) == ['epoch_1.pth']
    assert final(work_dir, 'epoch_1.pth')['meta']['iter'] == 4


@pytest.mark.full
def test_run_may_continue_after_a_full_disk(config, tmp_path):
    work_dir = tmp_path / 'run'
    output = run(
        with_full_disk(config, tmp_path, [1]),
        work_dir,
        options=('default_hooks.checkpoint.on_failure=warn',
                 'default_hooks.checkpoint.minutes=None',
                 'default_hooks.checkpoint.max_keep_ckpts=1'))
    assert 'WARNING - no checkpoint could be written' in output
    # the best of epoch 2 could not be written, and later ones are no better
    assert [name for name in names(work_dir)
            if 'best' not in name] == ['epoch_3.pth']
    assert final(work_dir)['meta']['iter'] == 12


class Runner(SimpleNamespace):
    """What the hook needs of a Runner; it notes what would be saved."""

    def __init__(self, work_dir):
        weight = torch.nn.Parameter(torch.ones(1))
        super().__init__(
            work_dir=str(work_dir),
            cfg=SimpleNamespace(env_cfg={}),
            logger=SimpleNamespace(info=str),
            message_hub=MessageHub('run'),
            optim_wrapper=OptimWrapper(torch.optim.SGD([weight], lr=1.)),
            param_schedulers=None,
            train_dataloader=range(100),
            train_loop=None,
            val_loop=None,
            iter=0,
            epoch=0,
            saved=[])

    def save_checkpoint(self, *_, meta, **__):
        self.saved.append(meta['iter'])


def test_other_files_named_interim_are_left_alone(tmp_path):
    """Of these the number is no iteration, or no whole one."""
    for name in 'interim_1.pth', 'interim_x.pth', 'interim_2.5.pth':
        (tmp_path / name).write_text('')
    hook = ResumableCheckpointHook()
    hook.before_train(Runner(tmp_path))
    hook.signals.release()
    assert [file.name for file in hook.interim] == ['interim_1.pth']


@pytest.mark.parametrize('iterations, saved', [
    ([7, 8], [7]),
    ([7, 9], [7, 9]),
])
def test_answer_that_comes_late_writes_no_second_checkpoint(
        tmp_path, iterations, saved):
    hook, runner = ResumableCheckpointHook(minutes=1), Runner(tmp_path)
    hook.before_train(runner)
    hook.signals.release()
    hook.requests = SimpleNamespace(exchange=lambda *_: [0, 1])
    for iteration in iterations:
        runner.iter = iteration - 1
        hook.after_train_iter(runner, batch_idx=runner.iter)
    assert runner.saved == saved


def test_signal_in_an_evaluation_exits_at_once_if_all_is_saved():
    hook = ResumableCheckpointHook()
    hook.signals.catch()
    try:
        hook.saved = 4
        hook.before_val_epoch(SimpleNamespace(iter=5))
        signal.raise_signal(signal.SIGTERM)
        assert hook.signals.received == signal.SIGTERM
        hook.before_val_epoch(SimpleNamespace(iter=4))
        with pytest.raises(SystemExit, match='143'):
            signal.raise_signal(signal.SIGTERM)
    finally:
        hook.signals.release()


def test_run_resumes_with_the_settings_of_its_config(config, tmp_path):
    """As the message about a run that has diverged advises."""
    work_dir, lr = tmp_path / 'run', 'optim_wrapper.optimizer.lr='
    run(config, work_dir, options=('train_cfg.max_epochs=1', ))
    before = final(work_dir, 'epoch_1.pth')['optimizer']
    rate = before['param_groups'][0]['initial_lr'] / 8
    decay = 'optim_wrapper.optimizer.weight_decay=0.5'
    run(config, work_dir, '--resume', options=(f'{lr}{rate}', decay))
    after = final(work_dir)['optimizer']
    assert {g['initial_lr'] for g in after['param_groups']} == {rate}
    assert {g['weight_decay'] for g in after['param_groups']} == {0., 0.5}
    assert {float(s['step']) for s in after['state'].values()} == {12.}
    assert f'lr: {rate:g} for 512 images' in log(work_dir)
