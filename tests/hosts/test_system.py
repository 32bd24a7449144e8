"""mmfd where a system lacks what only some systems have."""
import os
import re
import signal
import subprocess
import sys
import tempfile

import pytest
from helpers import two_hosts
from helpers.commands import ROOT

from mmfd.files import written_whole
from mmfd.hosts import system

# A fresh interpreter without what only Linux has, and all that is to work in
# it: importing every module, reading every config, training in one process.
ELSEWHERE = '''
import builtins, os, runpy, signal, sys
from types import SimpleNamespace

for owner, names in (
        (os, 'sched_getaffinity fork posix_fadvise sysconf O_DIRECTORY'),
        (signal, 'SIGUSR1 pthread_sigmask sigwaitinfo')):
    for name in names.split():
        delattr(owner, name)
there = builtins.__import__
# mmengine itself raises the limit of open files; mmfd finds no such module
of_mmengine = SimpleNamespace(
    RLIMIT_NOFILE=0, getrlimit=lambda _: (9, 9), setrlimit=lambda *_: None)

def import_elsewhere(name, globals=None, *args, **kwargs):
    if name == 'resource' and globals['__name__'].startswith('mmengine'):
        return of_mmengine
    if name in ('fcntl', 'resource'):
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)
    return there(name, globals, *args, **kwargs)

builtins.__import__ = import_elsewhere

import importlib, pkgutil
from pathlib import Path
import mmfd

for module in pkgutil.walk_packages(mmfd.__path__, 'mmfd.'):
    importlib.import_module(module.name)

from mmengine.config import Config
configs = [path for path in Path('configs').rglob('*.py')
           if '_base_' not in path.parts]  # which read all of _base_
for path in configs:
    Config.fromfile(path)
print(len(configs), 'configs')

data, work_dir = sys.argv[1:]
sys.argv = [
    'tools/train.py', 'configs/demo/simclr_fd.py', '--work-dir', work_dir,
    '--data-root', data, '--cfg-options', 'model.teacher.checkpoint=random',
    'train_cfg.max_epochs=1', 'default_hooks.logger.interval=1',
    *(f'{loader}_dataloader.{key}' for loader in ('train', 'val')
      for key in ('num_workers=0', 'persistent_workers=False'))
]
runpy.run_path('tools/train.py', run_name='__main__')
'''


def test_importing_configs_and_training_in_one_process_need_no_linux(
        tmp_path, shapes_root):
    done = subprocess.run(
        [sys.executable, '-c', ELSEWHERE, shapes_root / 'imagenet', tmp_path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=ROOT))
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r'^\d{2,} configs$', done.stdout, re.M)
    assert re.search(r'^iteration 3/3 ', done.stdout, re.M)
    assert (tmp_path / 'epoch_1.pth').exists()


@pytest.fixture
def elsewhere(monkeypatch):
    """Take from this process what only some systems have."""
    for owner, name in ((os, 'sched_getaffinity'), (os, 'sysconf'),
                        (os, 'posix_fadvise'), (os, 'O_DIRECTORY'),
                        (signal, 'SIGUSR1'), (signal, 'SIGHUP'),
                        (signal, 'sigwaitinfo')):
        monkeypatch.delattr(owner, name)
    monkeypatch.setitem(sys.modules, 'resource', None)


def test_cores_are_those_of_this_process():
    assert system.available_cores() == len(os.sched_getaffinity(0))


def test_peak_memory_grows_and_is_no_more_than_there_is():
    before = system.peak_memory()
    held = b'1' * before  # as much again
    assert before < system.peak_memory() <= system.total_memory()
    assert system.peak_memory(children=True) >= system.peak_memory()
    assert len(held) == before


def test_where_a_system_does_not_tell_the_answer_is_plain(elsewhere, tmp_path):
    assert system.available_cores() == os.cpu_count()
    assert system.peak_memory() is system.total_memory() is None
    assert system.stop_signals() == (signal.SIGINT, signal.SIGTERM)
    on_interrupt = signal.getsignal(signal.SIGINT)
    system.outlive_stop_signals()
    assert signal.signal(signal.SIGINT, on_interrupt) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with open(tmp_path / 'file', 'wb') as file:
        assert not system.forget_cached(file)
    with written_whole(tmp_path / 'file') as path:
        path.write_text('all of it')
    assert (tmp_path / 'file').read_text() == 'all of it'


SHIELDED = '''
import os, signal, subprocess, time
from mmfd.hosts import system
system.outlive_stop_signals()
for name in 'INT', 'TERM', 'USR1', 'HUP':
    subprocess.run(['kill', f'-{name}', str(os.getpid())])
while signal.SIGTERM in signal.sigpending():  # two pending ones are one
    time.sleep(0.001)
print('still here', flush=True)
time.sleep(60)
'''


def test_a_process_outlives_the_signals_that_are_not_its_parents():
    with subprocess.Popen([sys.executable, '-c', SHIELDED],
                          stdout=subprocess.PIPE,
                          env=dict(os.environ, PYTHONPATH=ROOT)) as child:
        assert child.stdout.readline() == b'still here\n'
        child.terminate()
        assert child.wait(20) == 0


def test_address_and_interface_are_those_towards_another_machine():
    """Loopback leads to none, nor does an unknown name."""
    assert system.address_towards('127.0.0.1') is None
    assert system.address_towards('no-such-host.invalid') is None
    assert system.interface_of(None) is None
    if reason := two_hosts.missing():
        pytest.skip(reason)
    with two_hosts.Hosts() as hosts, tempfile.NamedTemporaryFile('r') as log:
        script = ('from mmfd.hosts import system\n'
                  'for host in "10.77.0.1", "10.77.0.2":\n'
                  '    address = system.address_towards(host)\n'
                  '    print(address, system.interface_of(address))')
        hosts.start(
            1, [sys.executable, '-c', script], log.name,
            PYTHONPATH=ROOT).wait(60)
        assert log.read() == '10.77.0.2 cable\n' * 2
