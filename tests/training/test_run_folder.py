"""A folder of checkpoints has one run at a time."""
import os
import re
import signal
import subprocess
import sys

import pytest
from mmengine.config import Config

from mmfd.errors import Refused
from mmfd.training.run_folder import checkpoint_folder, folder_of, reserved

HOLD = '''
import fcntl, os, sys, time
file = open(sys.argv[1] + '/run.lock', 'w')
fcntl.lockf(file, fcntl.LOCK_EX)
file.write('process 7 on host')
file.flush()
if os.fork() == 0:  # a worker of a loader outlives its run for seconds
    time.sleep(60)
print('held', flush=True)
time.sleep(60)
'''


def test_second_run_is_refused_until_the_first_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, '-c', HOLD, tmp_path],
                          stdout=subprocess.PIPE,
                          process_group=0) as holder:
        assert holder.stdout.readline() == b'held\n'
        with pytest.raises(Refused) as refused:
            with reserved(tmp_path):
                pass
        assert str(refused.value) == (
            f'{tmp_path} is in use by another run, process 7 on host: wait '
            'for its end, or name another --work-dir')
        holder.kill()
        holder.wait()
        with reserved(tmp_path):  # its worker lives on
            text = (tmp_path / 'run.lock').read_text()
        os.killpg(holder.pid, signal.SIGKILL)
    assert re.match(rf'process {os.getpid()} on \S+$', text)


def test_start_that_fails_leaves_the_folder_free_and_as_it_was(tmp_path):
    folder = tmp_path / 'a/b'
    with pytest.raises(KeyError):
        with reserved(folder):
            raise KeyError
    assert not (tmp_path / 'a').exists()
    with reserved(folder):
        pass


def test_lock_follows_no_link(tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'run.lock').symlink_to(tmp_path / 'mine.txt')
    with pytest.raises(Refused, match='run.lock cannot be written'):
        with reserved(folder):
            pass
    assert (tmp_path / 'mine.txt').read_text() == 'mine'


def test_system_without_locks_is_said_and_works(tmp_path, monkeypatch, warned):
    monkeypatch.setitem(sys.modules, 'fcntl', None)  # as on Windows
    with reserved(tmp_path):
        pass
    assert ['has no locks' in text for text in warned] == [True]


def test_folder_of_checkpoints_is_that_of_the_hook():
    cfg = Config(dict(work_dir='runs/a/'))
    assert str(checkpoint_folder(cfg)) == 'runs/a'
    cfg['default_hooks'] = dict(checkpoint=dict(out_dir='/disk'))
    assert str(checkpoint_folder(cfg)) == '/disk/a'
    cfg['default_hooks'] = None
    assert str(checkpoint_folder(cfg)) == 'runs/a'


def test_folder_of_checkpoints_of_a_run_that_is_here_has_a_name(
        tmp_path, monkeypatch):
    (tmp_path / 'a').mkdir()
    monkeypatch.chdir(tmp_path / 'a')
    for here in '.', '../a/', '../a/.':
        assert str(folder_of(here, '/disk')) == '/disk/a'
