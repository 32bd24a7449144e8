"""A run resumes from the newest checkpoint that is undamaged."""
import os

import pytest
import torch
from helpers.runs import final, run
from mmengine.config import Config

from mmfd.launch.resume_checks import checkpoint_to_fit
from mmfd.training.last_checkpoint import (last_valid_checkpoint,
                                           resume_position)

FILES = [  # name, iteration, time of the file
    ('epoch_9', 900, 0),  # of an earlier run
    ('epoch_1', 100, 1),
    ('epoch_2', 200, 2),
    ('interim_270', 270, 3),
    ('interim_280', 280, 3),
    ('best_knn_epoch_2', 200, 4),
]


def truncate(file, size=5000):
    with open(file, 'rb+') as opened:
        opened.truncate(size)


def test_newest_undamaged_checkpoint_of_the_last_run_is_found(tmp_path):
    for name, iteration, time in FILES:
        file = tmp_path / f'{name}.pth'
        torch.save(
            dict(meta=dict(iter=iteration), state_dict=dict(a=torch.ones(3))),
            file)
        os.utime(file, (time, time))
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
