"""Run the project's commands in forks of a process that has imported much.

A fresh interpreter takes seconds to import what a command needs. Here one
process per session (and per worker of xdist) imports it; each command is a
fork of that process, with arguments, environment and working directory of its
own.
"""
import gc
import os
import runpy
import signal
import sys
import tempfile
import time
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import mmfd

ROOT = Path(__file__).resolve().parents[2]
# `launch` before the hosts' models: it brings the ops that mmcv-lite lacks
IMPORTED = [
    'mmfd.launch.config_options', 'mmfd.launch.runner', 'mmpretrain.models',
    'mmpretrain.datasets', 'mmpretrain.evaluation', 'mmpretrain.visualization',
    'torch.utils.tensorboard', 'matplotlib.backends.backend_agg'
]
ENVIRONMENT = dict(os.environ)  # before a test changes it
server = get_context('forkserver')
server.set_forkserver_preload(IMPORTED)


class Ended(NamedTuple):
    status: int  # negative: by that signal
    output: str  # of stdout and stderr, in order


def run(tool, *args, seconds=300, **options):
    """Run a command to its end.

    Args:
        tool (str): `train` for `tools/train.py`, a path below the root of the
            project with its suffix, or `-m` with a module as the first of
            `args`.
        args: arguments, turned into text.
        seconds (float): it is killed after so many.
        options: as of `start`.

    Returns:
        Ended: exit status and output.
    """
    with tempfile.NamedTemporaryFile() as log:
        process = start(tool, *args, log=log.name, **options)
        process.join(seconds)
        if process.is_alive():
            kill(process)
        return Ended(process.exitcode, Path(log.name).read_text())


def command(tool, *args, **options):
    """The output of a command that must succeed; arguments as of `run`."""
    status, output = run(tool, *args, **options)
    assert status == 0, f'exit status {status}\n{output[-3000:]}'
    return output


def refused(tool, *args, **options):
    """The message of a command that must refuse; arguments as of `run`.

    It ends with status 1, and its one message is the last it prints.
    """
    status, output = run(tool, *args, **options)
    assert status == 1, f'exit status {status}\n{output[-3000:]}'
    assert 'Traceback' not in output, output[-3000:]
    _, *messages = ('\n' + output).split('\nerror: ')
    assert len(messages) == 1, output[-3000:]
    return 'error: ' + messages[0].rstrip('\n')


def start(tool, *args, log, env=(), cwd=None, before=''):
    """Begin a command; `finish` or `kill` ends it.

    Args:
        tool, args: as of `run`.
        log (str | Path): file that its output is appended to.
        env (dict): variables beside those of the test; None takes one away.
        cwd (str | Path): its working directory, the test's by default.
        before (str): Python that is executed in the process first, in the
            place of a monkeypatch.

    Returns:
        multiprocessing.Process: started.
    """
    environment = {**os.environ, **{k: str(v) for k, v in dict(env).items()}}
    for name in (name for name, value in dict(env).items() if value is None):
        del environment[name]
    if tool != '-m':
        tool = str(ROOT / (tool if '.' in tool else f'tools/{tool}.py'))
    process = server.Process(
        target=_run,
        args=([tool, *map(str, args)], str(log), environment,
              str(cwd or os.getcwd()), before, mmfd.__file__))
    with mock.patch.dict(os.environ, ENVIRONMENT, clear=True):
        package = os.path.dirname(os.path.dirname(mmfd.__file__))
        os.environ['PYTHONPATH'] = os.pathsep.join(
            [package, *filter(None, [ENVIRONMENT.get('PYTHONPATH')])])
        forkserver.ensure_running()
    process.start()
    return process


def finish(process, log, status=0, seconds=600):
    """Wait for the end of a command, which must have this status."""
    process.join(seconds)
    output = Path(log).read_text() if os.path.exists(log) else ''
    assert process.exitcode == status, (
        f'exit status {process.exitcode}\n{output[-3000:]}')
    return output


def kill(process):
    """Whether there still was something to kill."""
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def wait_for(condition, process, seconds=300):
    """Whether a condition came true before the process ended."""
    until = time.monotonic() + seconds
    while not condition():
        if not process.is_alive():
            return False
        assert time.monotonic() < until, 'nothing happened'
        time.sleep(0.002)
    return True


def _run(command, log, environment, cwd, before, package):
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout.reconfigure(line_buffering=True)  # in order with stderr
    # a shell lets those ignore it that it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert mmfd.__file__ == package, 'mmfd is imported from elsewhere'
    from yapf.yapflib import yapf_api
    threads = os.environ.get('OMP_NUM_THREADS')
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    module = command.pop(1) if command[0] == '-m' else None
    sys.argv = command
    sys.path[:0] = [
        cwd if module else os.path.dirname(command[0]),
        *filter(None,
                environment.get('PYTHONPATH', '').split(os.pathsep))
    ]
    if environment.get('OMP_NUM_THREADS', threads) != threads:
        import torch  # which has read it already
        torch.set_num_threads(int(environment['OMP_NUM_THREADS']))
    # seconds for each run, to lay out a config that no test reads
    yapf_api.FormatCode = lambda text, **_: (text, True)
    gc.freeze()  # what is imported need not be looked through
    exec(before, {})
    if module:
        sys.modules.pop(module, None)
        runpy.run_module(module, run_name='__main__', alter_sys=True)
    else:
        runpy.run_path(command[0], run_name='__main__')
