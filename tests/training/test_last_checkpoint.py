"""A run resumes from the newest checkpoint that is undamaged."""
import os
import re

import pytest
import torch
from helpers.runs import final, run
from mmengine.config import Config

from mmfd.launch.checks.resume_checks import checkpoint_to_fit, last_checkpoint
from mmfd.training import run_folder
from mmfd.training.last_checkpoint import (last_valid_checkpoint,
                                           resume_position)

FILES = [  # name, iteration, time that it says
    ('epoch_9', 900, '20260101_000000'),  # of an earlier run
    ('epoch_1', 100, '20260102_000000'),
    ('epoch_2', 200, '20260103_000000'),
    ('interim_270', 270, '20260104_000000'),
    ('interim_280', 280, '20260104_000000'),
    ('best_knn_epoch_2', 200, '20260105_000000'),
]


def write(file, **meta):
    torch.save(dict(meta=meta, state_dict=dict(a=torch.ones(3))), file)
    return str(file)


def truncate(file, size=5000):
    with open(file, 'rb+') as opened:
        opened.truncate(size)


def test_last_undamaged_checkpoint_is_that_of_the_latest_time_in_the_files(
        tmp_path):
    """Of files that name no run; the times of the files do not count."""
    for number, (name, iteration, time) in enumerate(FILES):
        file = tmp_path / f'{name}.pth'
        write(file, iter=iteration, time=time)
        os.utime(file, (9 - number, 9 - number))
    for name in 'interim_280', 'interim_270', 'epoch_2', 'epoch_1', 'epoch_9':
        file = tmp_path / f'{name}.pth'
        assert last_valid_checkpoint(tmp_path) == str(file)
        truncate(file, 200)
        os.utime(file, (9, 9))
    assert last_valid_checkpoint(tmp_path) is None
    with pytest.raises(ValueError, match='none of 5 checkpoints in'):
        checkpoint_to_fit(
            Config(dict(work_dir=str(tmp_path), resume=True)), train=True)
    assert last_valid_checkpoint(tmp_path / 'nowhere') is None


@pytest.fixture
def passed_over(warned):
    """A function: names of the files that the log has passed over so far."""
    return lambda: re.findall(r'(\S+\.pth) is passed over', '\n'.join(warned))


def test_last_checkpoint_is_one_of_the_run_that_the_folder_names(
        tmp_path, passed_over):
    old = write(tmp_path / 'epoch_9.pth', run='a', starts=3, iter=900)
    new = write(tmp_path / 'epoch_2.pth', run='b', starts=1, iter=200)
    write(tmp_path / 'interim_90.pth', run='b', starts=1, iter=90)
    run_folder.begin(tmp_path, new, dict(run='b', starts=1))
    assert last_valid_checkpoint(tmp_path) == new
    assert passed_over() == [old]
    run_folder.begin(tmp_path, old, dict(run='a', starts=3))
    assert last_valid_checkpoint(tmp_path) == old
    run_folder.begin(tmp_path, None, {})  # a run that has written nothing
    assert last_valid_checkpoint(tmp_path) is None
    with pytest.raises(ValueError, match='none of 3 .* Name one with --resum'):
        last_checkpoint(tmp_path)


def test_run_that_went_back_goes_on_where_it_went_back(tmp_path):
    """Checkpoints of an earlier start may have higher iterations."""
    write(tmp_path / 'epoch_4.pth', run='a', starts=1, iter=400)
    second = tmp_path / 'epoch_2.pth'
    write(second, run='a', starts=1, iter=200)
    for starts in 2, 3:
        run = run_folder.begin(tmp_path, str(second), dict(run='a', starts=1))
        assert run == run_folder.Run('a', starts, None)
        last = write(
            tmp_path / f'interim_{210 - starts}.pth',
            run='a',
            starts=starts,
            iter=210 - starts)
        assert last_valid_checkpoint(tmp_path) == last


def test_older_run_without_a_name_goes_on_in_its_folder(tmp_path):
    old = write(tmp_path / 'epoch_2.pth', iter=200, time='20250101_000000')
    run = run_folder.begin(tmp_path, old, {})
    assert last_valid_checkpoint(tmp_path) == old  # nothing written so far
    new = write(tmp_path / 'interim_150.pth', run=run.name, starts=1, iter=150)
    assert last_valid_checkpoint(tmp_path) == new
    assert run_folder.begin(tmp_path, new, dict(run=run.name,
                                                starts=1)) == (run.name, 2, '')


def test_what_is_called_like_a_checkpoint_and_is_none_is_passed_over(
        tmp_path, passed_over):
    good = write(tmp_path / 'interim_4.pth', iter=4)
    write(tmp_path / 'interim_4 (copy).pth', iter=9)
    write(tmp_path / 'epoch_best.pth', iter=9)
    os.mkfifo(tmp_path / 'epoch_9.pth')
    (tmp_path / 'epoch_8.pth').mkdir()
    (tmp_path / 'iter_7.pth').symlink_to('nowhere')
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/epoch_3.pth')
    assert last_valid_checkpoint(tmp_path) == good
    assert {os.path.basename(path)
            for path in passed_over()} == {
                '(copy).pth', 'epoch_best.pth', 'epoch_9.pth', 'epoch_8.pth',
                'iter_7.pth'
            }


@pytest.mark.parametrize('text', [
    '', '[]', '{}', '{"name": 5, "starts": 1}', '{"name": "a"}', 'x' * 20_000,
    '{"name": "a", "starts": 1, "goes_on": "b"}', '{"name": "a", "more": 1}'
])
def test_damaged_note_of_a_run_is_as_good_as_none(tmp_path, text):
    (tmp_path / 'run.json').write_text(text)
    assert run_folder.read(tmp_path) is None
    good = write(tmp_path / 'interim_4.pth', iter=4, run='a')
    assert last_valid_checkpoint(tmp_path) == good


def test_position_is_that_of_the_last_update():
    assert resume_position(23, 2, 10, 10, 1) == (2, 23)
    assert resume_position(30, 3, 10, 10, 1) == (3, 30)
    assert resume_position(23, 2, 10, 10, 4) == (2, 20)
    assert resume_position(30, 3, 10, 10, 4) == (2, 28)  # within an update
    # of half the length: the same fraction of the epoch
    assert resume_position(25, 2, 5, 10, 1) == (2, 12)
    assert resume_position(30, 3, 5, 10, 1) == (3, 15)


def test_damaged_checkpoint_is_named_and_the_one_before_is_used(
        config, tmp_path):
    work_dir = tmp_path / 'run'
    run(config,
        work_dir,
        options=('default_hooks.checkpoint.minutes=None',
                 'train_cfg.val_interval=9'))
    file, before = work_dir / 'epoch_3.pth', final(work_dir)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1  # one bit of a tensor
    file.write_bytes(data)
    output = run(config, work_dir, '--resume')
    assert f'cannot resume from {file}, trying an older one' in output
    assert 'resumed epoch: 2, iter: 8' in output
    torch.testing.assert_close(
        final(work_dir)['state_dict'], before['state_dict'], rtol=0, atol=0)
