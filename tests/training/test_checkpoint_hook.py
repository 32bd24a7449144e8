"""Checkpoints are complete or absent, and a run can be stopped at any time."""
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from helpers import tiny_runs
from helpers.runs import final, log, run
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper

from mmfd.errors import Refused
from mmfd.training.checkpoint_hook import (AtomicBackend,
                                           ResumableCheckpointHook)


def test_replaced_file_stays_until_the_new_one_is_complete(tmp_path):
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
    assert files.outdated == [old]
    assert new.read_bytes() == b'new' and old.exists()


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
            cfg=Config(dict(env_cfg={})),
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
    names = 'interim_1.pth', 'interim_x.pth', 'interim_2.5.pth'
    for name in names:
        torch.save(dict(meta=dict(run='a', iter=1)), tmp_path / name)
    hook = ResumableCheckpointHook()
    hook.resumed = str(tmp_path / names[0]), dict(run='a')
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
        hook.after_train_iter(runner, runner.iter, None, None)
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


def of_run(run, file, iteration=1):
    torch.save(dict(meta=dict(run=run, iter=iteration)), file)
    return file


def test_only_plain_files_of_the_run_in_its_folder_are_removed(tmp_path):
    work_dir, base = tmp_path / 'run', tmp_path / 'base'
    for folder in work_dir, base / 'tree':
        folder.mkdir(parents=True)
    own = of_run('a', work_dir / 'epoch_1.pth')
    others = [
        of_run('b', work_dir / 'epoch_2.pth'),
        of_run('a', base / 'epoch_1.pth'), base / 'tree',
        work_dir / 'epoch_3.pth', work_dir / 'notes.txt', work_dir / 'gone.pth'
    ]
    others[3].symlink_to(base / 'epoch_1.pth')
    others[4].write_text('mine')
    hook, runner = ResumableCheckpointHook(), Runner(work_dir)
    hook.resumed = str(own), dict(run='a')
    hook.before_train(runner)
    hook.signals.release()
    for path in own, *others:
        hook.file_backend.remove(str(path))
        hook.file_backend.rmtree(str(path))
    before = {path for path in tmp_path.rglob('*')}
    hook.remove_outdated()
    assert before - {path for path in tmp_path.rglob('*')} == {own}


@pytest.mark.parametrize('name, kept', [
    ('{run}/best_acc_epoch_1.pth', '{run}/best_acc_epoch_1.pth'),
    ('{base}/best_acc_epoch_1.pth', '{run}/best_acc_epoch_1.pth'),
    ('{base}/best_acc_epoch_2.pth', None),
    ('{run}/best_acc_epoch_3.pth', None),
    ('{run}/epoch_1.pth', None),
    ('{base}', None),
    ('/', None),
    ('..', None),
    ('', None),
    (5 * '\0', None),
    (9999 * 'best_', None),
])
def test_best_checkpoint_is_one_of_the_run_or_none(tmp_path, name, kept):
    """Whatever a checkpoint names, from which the run goes on."""
    places = dict(run=tmp_path / 'run', base=tmp_path / 'base')
    for folder in places.values():
        folder.mkdir()
        of_run('a', folder / 'best_acc_epoch_1.pth')
        of_run('a', folder / 'epoch_1.pth')
    of_run('a', tmp_path / 'base/best_acc_epoch_2.pth')
    of_run('b', tmp_path / 'run/best_acc_epoch_3.pth')
    hook = ResumableCheckpointHook(save_best='acc', max_keep_ckpts=2)
    runner = Runner(places['run'])
    runner.message_hub = MessageHub(f'best {name[:20]}')
    runner.message_hub.update_info('best_ckpt', name.format(**places))
    runner.message_hub.update_info('keep_ckpt_ids', [1, 2, 7, 8, 9])
    hook.resumed = str(tmp_path / 'run/epoch_1.pth'), dict(run='a')
    hook.before_train(runner)
    hook.signals.release()
    assert hook.best_ckpt_path == (kept and kept.format(**places))
    assert [*hook.keep_ckpt_ids] == [1]
    assert {file.name
            for file in places['run'].iterdir()} == {
                'best_acc_epoch_1.pth', 'best_acc_epoch_3.pth', 'epoch_1.pth',
                'run.json'
            }


def test_what_a_killed_run_had_yet_to_remove_is_removed_when_it_resumes(
        tmp_path):
    """It was killed after it had written a checkpoint. Others stay."""
    work_dir = tmp_path / 'run'

    def train(epochs, keep):
        cfg = tiny_runs.config(work_dir, resume=epochs > 1)
        cfg.train_cfg.max_epochs = epochs
        cfg.default_hooks.checkpoint.max_keep_ckpts = keep
        tiny_runs.run(cfg)
        return names(work_dir)

    assert train(1, keep=-1) == ['epoch_1.pth']  # kept before there was a max
    assert train(2, keep=1) == ['epoch_1.pth', 'epoch_2.pth']
    second = (work_dir / 'epoch_2.pth').read_bytes()
    assert train(3, keep=1) == ['epoch_1.pth', 'epoch_3.pth']
    (work_dir / 'epoch_2.pth').write_bytes(second)
    assert train(3, keep=1) == ['epoch_1.pth', 'epoch_3.pth']
    of_run('b', work_dir / 'epoch_2.pth')
    assert len(train(3, keep=1)) == 3


def test_note_of_the_last_checkpoint_is_not_written_through_a_link(tmp_path):
    mine, work_dir = tmp_path / 'mine.txt', tmp_path / 'run'
    work_dir.mkdir()
    mine.write_text('mine')
    (work_dir / 'last_checkpoint').symlink_to(mine)
    tiny_runs.run(tiny_runs.config(work_dir))
    assert mine.read_text() == 'mine'
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir /
                                                             'epoch_2.pth')


def test_images_that_changed_between_stop_and_resume_are_said(
        config, shapes_root, tmp_path):
    """129 in the place of 120: as many iterations. Moved ones are the same."""
    work_dir, root = tmp_path / 'run', tmp_path / 'images'
    run(config,
        work_dir,
        options=('train_cfg.max_epochs=1', 'train_cfg.val_interval=9'))
    shutil.copytree(shapes_root / 'imagenet', root)
    options = (f'train_dataloader.dataset.data_root={root}',
               'train_cfg.val_interval=9', 'train_cfg.max_epochs=2')
    moved = run(config, work_dir, '--resume', options=options)
    assert 'resumed epoch: 1, iter: 4' in moved
    assert 'training images' not in moved
    file = next((root / 'train').rglob('*.*'))
    for number in range(9):
        shutil.copy(file, file.with_stem(f'more_{number}'))
    options = (*options[:2], 'train_cfg.max_epochs=3')
    grown = run(config, work_dir, '--resume', options=options)
    assert 'resumed epoch: 2, iter: 8' in grown
    assert ('WARNING - the run had 120 training images and has 129 now'
            in grown)


def logged(work_dir):
    """What the last run in a work dir has logged."""
    files = work_dir.glob('*/*.log')
    return max(files, key=lambda file: file.stat().st_mtime_ns).read_text()


def tiny(work_dir, **changes):
    tiny_runs.run(tiny_runs.config(work_dir, log_level='INFO', **changes))
    return logged(work_dir)


def test_other_settings_of_a_resumed_run_are_said(tmp_path):
    tiny(tmp_path / 'a')
    first = dict(resume=True, load_from=str(tmp_path / 'a/epoch_1.pth'))
    assert 'other settings' not in tiny(tmp_path / 'same', **first)
    text = tiny(
        tmp_path / 'others',
        train_cfg=dict(max_epochs=3),
        optim_wrapper=dict(
            dtype='bfloat16',
            accumulative_counts=2,
            optimizer=dict(type='Adam')),
        custom_hooks=[dict(type='EMAHook', momentum=0.1)],
        **first)
    assert (
        'goes on with other settings than before: custom_hooks.0.momentum was '
        'None, is 0.1; optim_wrapper.accumulative_counts was None, is 2; optim'
        "_wrapper.dtype was 'float32', is 'bfloat16'; optim_wrapper.optimizer."
        "type was 'AdamW', is 'Adam'; train_cfg.max_epochs was 2, is 3\n"
    ) in text


def test_run_that_has_ended_already_is_said(tmp_path):
    tiny(tmp_path)
    text = tiny(tmp_path, resume=True, train_cfg=dict(max_epochs=1))
    assert 'has had its 1 epochs already, 2 of them, so nothing is' in text


def test_run_in_the_folder_of_an_earlier_one_says_that_it_writes_over_it(
        tmp_path):
    assert 'an earlier run' not in tiny(tmp_path)
    assert 'an earlier run' not in tiny(tmp_path, resume=True)
    assert (f'{tmp_path} holds 2 checkpoints of an earlier run, and this one '
            'writes over those of the same name: name another --work-dir to '
            f'keep them, or go on from one with --resume {tmp_path}/epoch_2.pt'
            ) in tiny(tmp_path)


@pytest.mark.parametrize('name', ['model_{}.pth', 'epoch_1.pth', '{}'])
def test_name_by_which_no_checkpoint_is_found_is_refused(name):
    with pytest.raises(Refused, match='leave filename_tmpl out'):
        ResumableCheckpointHook(filename_tmpl=name)
    ResumableCheckpointHook(filename_tmpl='epoch_{:03d}.pth')


def test_best_of_what_was_not_measured_is_refused_by_name():
    hook = ResumableCheckpointHook(save_best='knn/top5', rule='greater')
    with pytest.raises(
            Refused, match="'knn/top5': the evaluation measured knn/top1; na"):
        hook.after_val_epoch(None, {'knn/top1': 1.})
