"""Checkpoints are whole or absent, and of numbers."""
import os
import re
from types import SimpleNamespace

import pytest
import torch
from helpers.runs import CONFIG, final, finish, log, start
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.launch.resume_checks import last_checkpoint
from mmfd.training import checkpoint_hook, loop
from mmfd.training.nan_guard import NanGuardHook
from mmfd.weights import checkpoints


@pytest.fixture(scope='module')
def config(tmp_path_factory, shapes_root):
    file = tmp_path_factory.mktemp('saving') / 'fd.py'
    file.write_text(CONFIG.format(repo=os.getcwd(), root=shapes_root))
    return file


@pytest.fixture
def finished(config, tmp_path):
    run = tmp_path / 'run'
    finish(
        start(
            config,
            run,
            options=('default_hooks.checkpoint.minutes=None',
                     'train_cfg.val_interval=9')), run)
    return run


def cut(file, size=5000):
    with open(file, 'rb+') as written:
        written.truncate(size)


def damage(file):
    """Change one number amid the weights."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    'hurt', [cut, pytest.param(damage, marks=pytest.mark.full)])
def test_damaged_checkpoint_is_named_and_the_one_before_is_used(
        config, finished, hurt):
    before = final(finished)
    hurt(finished / 'epoch_3.pth')
    finish(start(config, finished, '--resume'), finished)
    said = log(finished)
    assert f'not going on from {finished}/epoch_3.pth, but from one' in said
    assert 'resumed epoch: 2, iter: 8' in said
    torch.testing.assert_close(
        final(finished)['state_dict'], before['state_dict'], rtol=0, atol=0)


LYING_THERE = [  # name, iteration, time
    ('epoch_9', 900, 0),  # of a run before
    ('epoch_1', 100, 1),
    ('epoch_2', 200, 2),
    ('interim_270', 270, 3),
    ('interim_280', 280, 3),
    ('best_knn_epoch_2', 200, 4),
]


def test_last_checkpoint_is_the_last_whole_one_of_the_last_run(tmp_path):
    for name, iteration, time in LYING_THERE:
        file = tmp_path / f'{name}.pth'
        torch.save(
            dict(meta=dict(iter=iteration), state_dict=dict(a=torch.ones(3))),
            file)
        os.utime(file, (time, time))
    for name in 'interim_280', 'interim_270', 'epoch_2', 'epoch_1', 'epoch_9':
        file = tmp_path / f'{name}.pth'
        assert loop.last_whole(tmp_path) == str(file)
        cut(file, 200)
        os.utime(file, (9, 9))
    assert loop.last_whole(tmp_path) is None
    with pytest.raises(ValueError, match='none of 5 checkpoints in'):
        last_checkpoint(tmp_path)
    assert loop.last_whole(tmp_path / 'nowhere') is None


def test_position_is_that_of_the_last_update():
    position = loop.position
    assert position(23, 2, 10, 10, 1) == (2, 23)
    assert position(30, 3, 10, 10, 1) == (3, 30)
    assert position(23, 2, 10, 10, 4) == (2, 20)
    assert position(30, 3, 10, 10, 4) == (2, 28)  # amid an update
    # of half the length: the same share of the epoch
    assert position(25, 2, 5, 10, 1) == (2, 12)
    assert position(30, 3, 5, 10, 1) == (3, 15)


def test_what_a_file_replaces_goes_after_it_is_whole(tmp_path):
    files = checkpoint_hook.WholeFiles()
    old, new = tmp_path / 'epoch_1.pth', tmp_path / 'epoch_2.pth'
    files.put(b'old', old)
    files.remove(old)
    assert old.exists()
    with pytest.raises(IsADirectoryError):
        new.mkdir()
        files.put(b'new', new)
    assert old.exists() and {f.name
                             for f in tmp_path.iterdir()} == {
                                 'epoch_1.pth', 'epoch_2.pth'
                             }  # no half-written file is left
    new.rmdir()
    files.put(b'new', new)
    files.remove_outdated()
    assert new.read_bytes() == b'new' and not old.exists()


def hurt(config, tmp_path, hook):
    """A config with a hook that hurts its run."""
    file = tmp_path / 'hurt.py'
    file.write_text(f"""
_base_ = '{config}'
custom_imports = dict(imports=['helpers.hurt'], allow_failed_imports=False)
custom_hooks = [{hook}]
""")
    return file


def names(run):
    return sorted(file.name for file in run.glob('*.pth*'))


def test_full_disk_stops_before_the_last_good_checkpoint_is_touched(
        config, tmp_path):
    run = tmp_path / 'run'
    file = hurt(config, tmp_path, "dict(type='FullDisk', epochs=[1, 2])")
    options = ('default_hooks.checkpoint.minutes=None',
               'default_hooks.checkpoint.max_keep_ckpts=1')
    finish(start(file, run, options=options), run, code=1)
    assert (f'error: no checkpoint could be written to {run}: File too large; '
            f'the last whole one is {run}/epoch_1.pth') in log(run)
    assert 'Traceback' not in log(run)
    assert names(run) == ['epoch_1.pth']
    assert final(run, 'epoch_1.pth')['meta']['iter'] == 4


@pytest.mark.full
def test_full_disk_may_be_outlasted(config, tmp_path):
    run = tmp_path / 'run'
    file = hurt(config, tmp_path, "dict(type='FullDisk', epochs=[1])")
    options = ('default_hooks.checkpoint.on_failure=warn',
               'default_hooks.checkpoint.minutes=None',
               'default_hooks.checkpoint.max_keep_ckpts=1')
    finish(start(file, run, options=options), run)
    assert 'WARNING - no checkpoint could be written' in log(run)
    # as good as any before, the best of epoch 2 could not be written
    assert [n for n in names(run) if 'best' not in n] == ['epoch_3.pth']
    assert final(run)['meta']['iter'] == 12


@pytest.mark.parametrize(
    'what',
    ['gradient', pytest.param('loss', marks=pytest.mark.full)])
def test_what_is_no_number_stops_the_run_where_it_was(config, tmp_path, what):
    run = tmp_path / 'run'
    file = hurt(config, tmp_path,
                f"dict(type='Poison', iterations=[6], what='{what}')")
    options = ('default_hooks.checkpoint.minutes=None', )
    finish(start(file, run, options=options), run, code=1)
    value = 'nan' if what == 'loss' else '(nan|inf)'
    assert re.search(
        f'error: the {what} is {value} in iteration 6, epoch 2. The last good '
        f'checkpoint is {run}/epoch_1.pth', log(run))
    assert names(run) == ['epoch_1.pth']


def test_run_goes_on_at_the_rates_of_its_config(config, tmp_path):
    """As the message of a run that has diverged advises."""
    run, lr = tmp_path / 'run', 'optim_wrapper.optimizer.lr='
    finish(start(config, run, options=('train_cfg.max_epochs=1', )), run)
    before = final(run, 'epoch_1.pth')['optimizer']
    rate = before['param_groups'][0]['initial_lr'] / 8
    decay = 'optim_wrapper.optimizer.weight_decay=0.5'
    finish(start(config, run, '--resume', options=(f'{lr}{rate}', decay)), run)
    after = final(run)['optimizer']
    assert {g['initial_lr'] for g in after['param_groups']} == {rate}
    assert {g['weight_decay'] for g in after['param_groups']} == {0., 0.5}
    assert {float(s['step']) for s in after['state'].values()} == {12.}
    assert f'{rate:g} -> ' in log(run)


def wanting(wanted, iterations):
    """Iterations after which a checkpoint is written."""
    hook, written = checkpoint_hook.ResumableCheckpointHook(minutes=1), []
    hook.out_dir, hook.file_backend = '', checkpoint_hook.WholeFiles()
    hook.wanted, hook.interim = wanted, checkpoint_hook.deque()
    runner = SimpleNamespace(
        param_schedulers=None,
        message_hub=SimpleNamespace(runtime_info={}),
        save_checkpoint=lambda *_, meta, **__: written.append(meta['iter']))
    for iteration in iterations:
        hook._if_wanted(runner, 0, iteration)
    return written


def test_answer_that_comes_late_writes_no_second_checkpoint():
    assert wanting((0, 1), [7, 8]) == [7]
    assert wanting((0, 1), [7, 9]) == [7, 9]


def test_signal_in_an_evaluation_waits_where_nothing_was_saved_before():
    hook = checkpoint_hook.ResumableCheckpointHook()
    hook.written = 4
    hook.before_val_epoch(SimpleNamespace(iter=5))
    hook._note(15, None)
    assert hook.signal == 15
    hook.before_val_epoch(SimpleNamespace(iter=4))
    with pytest.raises(SystemExit, match='143'):
        hook._note(15, None)


def test_updates_without_a_number_are_left_out(config, tmp_path):
    run = tmp_path / 'run'
    file = hurt(config, tmp_path,
                "dict(type='Poison', iterations=[6, 7], what='loss')")
    options = 'default_hooks.numbers.skip=2', 'train_cfg.val_interval=9'
    finish(start(file, run, options=options), run)
    assert re.search(
        r'iteration 7: the gradient is (nan|inf); its update is '
        'left out, 2 of at most 2 in a row', log(run))
    state = final(run)
    assert all(w.isfinite().all() for w in state['state_dict'].values())
    steps = {float(s['step']) for s in state['optimizer']['state'].values()}
    assert steps == {10}  # of 12


@pytest.mark.full
def test_more_updates_without_a_number_stop_the_run(config, tmp_path):
    run = tmp_path / 'run'
    file = hurt(config, tmp_path,
                "dict(type='Poison', iterations=[6, 7], what='loss')")
    options = ('default_hooks.numbers.skip=1', )
    finish(start(file, run, options=options), run, code=1)
    assert '1 updates have been left out in a row before iteration 7' in log(
        run)


def test_spikes_of_the_loss_are_noted():
    said = []
    hook = NanGuardHook(spike=3)
    runner = SimpleNamespace(
        logger=SimpleNamespace(warning=said.append), epoch=0)
    for runner.iter in range(30):
        loss = torch.tensor(7. if runner.iter == 24 else 2.)
        hook.after_train_iter(runner, runner.iter, outputs=dict(loss=loss))
    assert said == ['iteration 25: the loss of 7 is 3.5 times the usual 2']


@pytest.fixture
def taught(config, tmp_path):
    """A run, and the options of its teacher and of another one."""
    run = tmp_path / 'run'
    torch.manual_seed(1)
    for place in 'one', 'two':
        teacher = MODELS.build(Config.fromfile(config).model.teacher.backbone)
        checkpoints.save(teacher.state_dict(), tmp_path / place / 'clip.pth',
                         {})
    one, two = (f'model.teacher.checkpoint={tmp_path}/{place}/clip.pth'
                for place in ('one', 'two'))
    finish(start(config, run, options=('train_cfg.max_epochs=1', one)), run)
    return run, one, two


def assert_both_are_named(run, said):
    before, now = re.findall('with fingerprint ([0-9a-f]{64})', said)
    meta = final(run, 'epoch_1.pth')['meta']
    assert before == meta['teacher.fingerprint'] != now
    assert re.search(
        r'against the teacher clip.pth .* and \S+/two/clip.pth is '
        'another one', said)


def test_run_does_not_go_on_with_a_teacher_of_another_fingerprint(
        config, taught):
    run, _, two = taught
    finish(start(config, run, '--resume', options=(two, )), run, code=1)
    assert_both_are_named(run, log(run))


@pytest.mark.full
def test_student_is_not_judged_by_a_teacher_of_another_fingerprint(
        config, taught, tmp_path):
    run, one, two = taught
    for options, code in (two, 1), (one, 0):
        other = tmp_path / f'test{code}'
        finish(
            start(
                config,
                other,
                run / 'epoch_1.pth',
                tool='tools/test.py',
                options=(options, )), other, code)
    assert_both_are_named(run, log(tmp_path / 'test1'))
