"""A start that fails is one message, and leaves nothing behind."""
import os
from threading import Thread

import pytest
from mmengine.logging import MMLogger
from mmengine.visualization import Visualizer

from mmfd.errors import Refused
from mmfd.launch.checks.type_names import find_class
from mmfd.launch.failed_start import (build_errors_refused,
                                      data_errors_refused, traces_removed)

HOSTS = dict(type='mmdet.CocoDataset')


def test_failed_start_removes_its_own_log_and_nobody_elses(tmp_path):
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    with pytest.raises(KeyError):
        with traces_removed(work_dir):
            (work_dir / '20260101_000000').mkdir()
            (work_dir / 'fd.py').touch()
            (work_dir / 'epoch_5.pth').touch()  # of a run beside it
            raise KeyError
    assert os.listdir(work_dir) == ['epoch_5.pth']


def test_failed_start_removes_the_folders_that_it_made(tmp_path):
    with pytest.raises(KeyError):
        with traces_removed(tmp_path / 'runs/fd'):
            (tmp_path / 'runs/fd/20260101_000000').mkdir(parents=True)
            raise KeyError
    assert not os.listdir(tmp_path)


def test_a_thread_gets_a_logger_after_a_start_failed_in_another(tmp_path):
    with pytest.raises(KeyError):
        with traces_removed(tmp_path):  # which asks for a visualizer: none
            raise KeyError
    found = []
    thread = Thread(
        target=lambda: found.append(MMLogger.get_current_instance()),
        daemon=True)
    thread.start()
    thread.join(60)
    assert found


def test_nothing_is_written_to_what_was_removed(tmp_path, capfd):
    """TensorBoard writes in a thread of its own, some time later."""
    folder = tmp_path / 'run/20260101_000000'
    with pytest.raises(KeyError):
        with traces_removed(tmp_path / 'run'):
            visualizer = Visualizer.get_instance(
                'fails',
                vis_backends=[dict(type='TensorboardVisBackend')],
                save_dir=str(folder))
            visualizer.add_scalar('loss', 1.)
            raise KeyError
    visualizer.close()
    assert 'Traceback' not in capfd.readouterr().err
    assert not os.listdir(tmp_path)


def test_errors_of_the_host_are_one_refusal():
    assert find_class('mmfd.Teacher', 'mmpretrain')  # known from now on
    with pytest.raises(Refused, match="built: TypeError: no 'lrr'"):
        with build_errors_refused():
            raise TypeError("no 'lrr'")
    with pytest.raises(
            Refused, match="type='mmfd.Teachr'; did you mean 'mmfd"
            ".Teacher'"):
        with build_errors_refused():
            raise KeyError('mmfd.Teachr is not in the model registry')
    with pytest.raises(Refused, match='images of val_dataloader cannot be li'):
        with data_errors_refused('val', HOSTS):
            raise FileNotFoundError('x.json')
    with pytest.raises(Refused, match='^as it is$'):
        with build_errors_refused(), data_errors_refused('val', HOSTS):
            raise Refused('as it is')


def test_internal_value_error_stays_what_it_is():
    with pytest.raises(ValueError) as error:
        with build_errors_refused():
            raise ValueError('a bug')
    assert error.type is ValueError


def test_internal_error_of_a_dataset_of_mmfd_stays_what_it_is():
    with pytest.raises(ValueError) as error:
        with data_errors_refused('train', dict(type='mmfd.ImageFolder')):
            raise ValueError('a bug')
    assert error.type is ValueError
