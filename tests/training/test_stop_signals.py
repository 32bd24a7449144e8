"""Signals end a run once it has saved, and a second Ctrl-C at once."""
import json
import os
import signal
import threading
import time

import pytest
from helpers.runs import finish, log, start, together, wait_for
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfd.training import stop_signals
from mmfd.training.last_checkpoint import last_valid_checkpoint
from mmfd.training.stop_signals import StopSignals

SCRIPT = '''
import json
import sys
from pathlib import Path

from torch import distributed

from mmfd.launch import processes
from mmfd.training.stop_signals import RequestVote

processes.join('pytorch')
rank = distributed.get_rank()
requests = RequestVote(timeout=60)
# the first wants to save in iteration 0, the second gets a signal in 1
answers = [
    requests.exchange(15 * ((rank, iteration) == (1, 1)),
                      (rank, iteration) == (0, 0)) for iteration in range(4)
]
requests.close()
Path(sys.argv[1], f'{rank}.json').write_text(json.dumps(answers))
'''


def test_two_processes_know_of_a_request_one_iteration_later(tmp_path):
    (tmp_path / 'script.py').write_text(SCRIPT)
    together(2, tmp_path / 'script.py', tmp_path, log=tmp_path / 'log')
    for rank in range(2):
        answers = json.loads((tmp_path / f'{rank}.json').read_text())
        assert answers == [[0, 0], [0, 1], [15, 0], [0, 0]]


@pytest.fixture
def signals(monkeypatch):
    """Caught, and such that two Ctrl-C's are two after a moment."""
    monkeypatch.setattr(stop_signals, 'AT_ONCE', 0.1)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    caught = StopSignals()
    caught.catch()
    yield caught
    caught.release()
    assert signal.signal(signal.SIGINT, before) == signal.default_int_handler


def send(*numbers, pause=0.):
    for number in numbers:
        time.sleep(pause)
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    'numbers',
    [
        [signal.SIGINT],
        [signal.SIGTERM],
        [signal.SIGHUP],  # of a terminal that is closed
        [signal.SIGUSR1, signal.SIGTERM],  # of a scheduler: it may still save
        [signal.SIGTERM, signal.SIGINT],
    ])
def test_signal_is_noted_and_ends_nothing(signals, numbers):
    send(*numbers, pause=0.2)
    assert signals.received == numbers[0]


def test_ctrl_c_that_comes_twice_at_once_is_one(signals):
    send(signal.SIGINT, signal.SIGINT)
    assert signals.received == signal.SIGINT


@pytest.mark.parametrize('second', [signal.SIGINT, signal.SIGTERM])
def test_second_signal_after_ctrl_c_ends_the_process(signals, second):
    """SIGTERM is what PyTorch's launcher makes of a second Ctrl-C."""
    with pytest.raises(SystemExit) as ended:
        send(signal.SIGINT, second, pause=0.2)
    assert ended.value.code == 130


@pytest.mark.parametrize(
    'number, caught',
    [
        (signal.SIGINT, False),  # of a shell
        (signal.SIGHUP, False),  # of `nohup`
        (signal.SIGUSR1, True),  # of a batch script, which it would end
    ])
def test_what_whoever_starts_a_run_has_it_ignore(number, caught):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        signals = StopSignals()
        signals.catch()
        assert signal.getsignal(number) == (
            signals._receive if caught else signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) == signals._receive
        signals.release()
    finally:
        signal.signal(number, before)


class Broken(Hook):

    def after_train_iter(self, *args, **kwargs):
        raise ArithmeticError


def runner(config, work_dir, **settings):
    cfg = Config.fromfile(config)
    cfg.update(work_dir=str(work_dir), **settings)
    cfg.train_cfg.max_epochs = 1
    return Runner.from_cfg(cfg)


def test_run_that_ends_by_an_error_leaves_no_handler(config, tmp_path):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    failing = runner(config, tmp_path)
    failing.register_hook(Broken())
    with pytest.raises(ArithmeticError):
        failing.train()
    assert [signal.getsignal(number) for number in numbers] == before


def test_run_in_a_thread_trains(config, tmp_path):
    thread = threading.Thread(target=runner(config, tmp_path).train)
    thread.start()
    thread.join(60)
    assert last_valid_checkpoint(tmp_path) == str(tmp_path / 'epoch_1.pth')
    [text] = [file.read_text() for file in tmp_path.glob('*/*.log')]
    assert 'is in a thread, which receives no signals' in text


SLOW = """
custom_imports = dict(
    imports=['helpers.fault_hooks'], allow_failed_imports=False)
custom_hooks = [dict(type='SlowIteration', iteration=3)]
"""


def test_second_ctrl_c_ends_a_run_within_an_iteration(config, tmp_path):
    slow, work_dir = tmp_path / 'slow.py', tmp_path / 'run'
    slow.write_text(f"_base_ = '{config}'\n{SLOW}")
    options = 'default_hooks.checkpoint.minutes=None',
    process = start(slow, work_dir, options=options)
    assert wait_for(lambda: 'slow iteration' in log(work_dir), process)
    os.kill(process.pid, signal.SIGINT)
    assert wait_for(lambda: 'Once more ends it' in log(work_dir), process)
    time.sleep(stop_signals.AT_ONCE)
    os.kill(process.pid, signal.SIGINT)
    finish(process, work_dir, code=130, seconds=20)
    assert '--resume continues it' in log(work_dir)
    assert 'Traceback' not in log(work_dir)
    assert not [*work_dir.glob('*.pth*')]


@pytest.mark.parametrize('command, expected', [
    ('tools/train.py fd.py', 'python tools/train.py fd.py --resume'),
    ('tools/train.py fd.py --resume --amp',
     'python tools/train.py fd.py --amp --resume'),
    ('tools/train.py fd.py --resume old/epoch_1.pth --work-dir new',
     'python tools/train.py fd.py --work-dir new --resume'),
    ('tools/train.py --resume=old/epoch_1.pth fd.py',
     'python tools/train.py fd.py --resume'),
])
def test_run_goes_on_from_its_last_checkpoint_whatever_it_began_with(
        command, expected, monkeypatch):
    monkeypatch.setattr('sys.argv', command.split())
    assert stop_signals.how_to_go_on() == f'it goes on with\n  {expected}'
