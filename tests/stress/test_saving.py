"""Checkpoints are whole or absent, and of numbers."""
import os
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from runs import CONFIG, final, finish, log, start

from mmfd import checkpoints, resume, saving
from mmfd.health import SoundNumbers


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


@pytest.mark.parametrize('hurt', [cut, damage])
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


def test_last_checkpoint_is_that_of_the_last_iteration(tmp_path):
    for name, iteration in (('epoch_1', 100), ('epoch_2', 200), ('interim_170',
                                                                 170),
                            ('interim_200', 200), ('best_knn_epoch_9', 900)):
        torch.save(
            dict(meta=dict(iter=iteration), state_dict=dict(a=torch.ones(3))),
            tmp_path / f'{name}.pth')
    assert resume.last_whole(tmp_path) == str(tmp_path / 'interim_200.pth')
    cut(tmp_path / 'interim_200.pth', 200)
    assert resume.last_whole(tmp_path) == str(tmp_path / 'epoch_2.pth')
    for file in tmp_path.glob('*_[12]*'):
        cut(file, 0)
    assert resume.last_whole(tmp_path) is None
    assert resume.last_whole(tmp_path / 'nowhere') is None


def test_position_is_that_of_the_last_update():
    position = resume.position
    assert position(23, 2, 10, 10, 1) == (2, 23)
    assert position(30, 3, 10, 10, 1) == (3, 30)
    assert position(23, 2, 10, 10, 4) == (2, 20)
    assert position(30, 3, 10, 10, 4) == (2, 28)  # amid an update
    # of half the length: the same share of the epoch
    assert position(25, 2, 5, 10, 1) == (2, 12)
    assert position(30, 3, 5, 10, 1) == (3, 15)


def test_what_a_file_replaces_goes_after_it_is_whole(tmp_path):
    files = saving.WholeFiles()
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
custom_imports = dict(imports=['hurt'], allow_failed_imports=False)
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


@pytest.mark.parametrize('what', ['loss', 'gradient'])
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
    options = 'default_hooks.numbers.skip=1', 'train_cfg.val_interval=9'
    finish(
        start(file, tmp_path / 'second', options=options),
        tmp_path / 'second',
        code=1)
    assert ('1 updates have been left out in a row before iteration 7'
            in log(tmp_path / 'second'))


def test_spikes_of_the_loss_are_noted():
    said = []
    hook = SoundNumbers(spike=3)
    runner = SimpleNamespace(
        logger=SimpleNamespace(warning=said.append), epoch=0)
    for runner.iter in range(30):
        loss = torch.tensor(7. if runner.iter == 24 else 2.)
        hook.after_train_iter(runner, runner.iter, outputs=dict(loss=loss))
    assert said == ['iteration 25: the loss of 7 is 3.5 times the usual 2']


def test_teacher_of_another_fingerprint_is_refused(config, tmp_path):
    """Neither another file of the same name nor other statistics pass."""
    run, folder = tmp_path / 'run', tmp_path / 'weights'
    torch.manual_seed(1)
    for place in 'one', 'two':
        teacher = MODELS.build(Config.fromfile(config).model.teacher.backbone)
        checkpoints.save(teacher.state_dict(), folder / place / 'teacher.pth',
                         {})
    options = ['train_cfg.max_epochs=1', 'model.teacher.checkpoint=']
    one, two = (f'{options[1]}{folder}/{place}/teacher.pth'
                for place in ('one', 'two'))
    finish(start(config, run, options=(options[0], one)), run)
    told = final(run, 'epoch_1.pth')['meta']
    finish(start(config, run, '--resume', options=(two, )), run, code=1)
    [before, now] = re.findall('with fingerprint ([0-9a-f]{64})', log(run))
    assert before == told['teacher.fingerprint'] != now
    assert f'{folder}/two/teacher.pth is another one' in log(run)
    finish(start(config, run, '--resume', options=(one, )), run)
    file = run / 'epoch_1.pth'
    judge = dict(tool='tools/test.py', options=(two, ))
    finish(
        start(config, tmp_path / 'test', file, **judge),
        tmp_path / 'test',
        code=1)
    assert [before, now] == re.findall('with fingerprint ([0-9a-f]{64})',
                                       log(tmp_path / 'test'))
