"""Several processes end, and go on, as one."""
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers.runs import CONFIG, curves, final, finish, log, start, wait_for

SLOW = '''
import time

from mmengine.hooks import Hook

from mmfd.registry import HOOKS


@HOOKS.register_module()
class Slow(Hook):

    def after_train_iter(self, *args, **kwargs):
        time.sleep(0.5)
'''
SLOWLY = '''
_base_ = 'fd.py'
custom_imports = dict(imports=['slow'], allow_failed_imports=False)
default_hooks = dict(slow=dict(type='mmfd.Slow'))
'''


@pytest.fixture(scope='module')
def config(tmp_path_factory, shapes_root):
    """Of crops that depend on nothing but the image, 20 updates."""
    file = tmp_path_factory.mktemp('distributed') / 'fd.py'
    text = CONFIG.format(repo=os.getcwd(), root=shapes_root)
    file.write_text(
        text.replace('drop_path_rate=0.2', 'drop_path_rate=0.') +
        'train_cfg = dict(max_epochs=5, val_interval=9)\n')
    (file.parent / 'slow.py').write_text(SLOW)
    (file.parent / 'slowly.py').write_text(SLOWLY)
    return file


@contextmanager
def launched(config, run, count, *options):
    """tools/dist_train.sh, which is ended with the test."""
    with open(f'{run}.log', 'w') as said, subprocess.Popen(
        [
            'tools/dist_train.sh', config,
            str(count), '--verbose', '--work-dir', run, '--cfg-options',
            f'train_dataloader.batch_size={-(-30 // count)}', *options
        ],
            stdout=said,
            stderr=said,
            env=dict(os.environ, PYTHON=sys.executable)) as launcher:
        launcher.is_alive = lambda: launcher.poll() is None
        try:
            yield launcher
        finally:
            launcher.kill()


def process(launcher, rank):
    """The pid of one of a run's processes."""
    children = Path(f'/proc/{launcher.pid}/task/{launcher.pid}/children')
    for pid in children.read_text().split():
        environ = Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
        if f'RANK={rank}'.encode() in environ:
            return int(pid)


def losses(run):
    return torch.tensor([
        values[-1]['loss']
        for (kind, _), values in sorted(curves(run).items()) if kind == 'train'
    ])


@pytest.mark.full
def test_killed_process_ends_the_job_and_is_named(config, tmp_path):
    run = tmp_path / 'run'
    with launched(config, run, 2) as launcher:
        assert wait_for(lambda: '][2/4]' in log(run), launcher, 120)
        begun = time.monotonic()
        killed = process(launcher, 1)
        os.kill(killed, signal.SIGKILL)
        assert launcher.wait(60) == 1
    assert time.monotonic() - begun < 60
    assert f'error: process 1 (pid {killed}) was ended by SIGKILL' in log(run)


@pytest.mark.full
def test_hung_process_ends_the_job_within_the_timeout(config, tmp_path):
    run = tmp_path / 'run'
    with launched(config, run, 2, 'env_cfg.dist_cfg.timeout=10') as launcher:
        assert wait_for(lambda: '][2/4]' in log(run), launcher, 120)
        begun = time.monotonic()
        os.kill(process(launcher, 1), signal.SIGSTOP)
        assert launcher.wait(60) != 0
    assert 9 < time.monotonic() - begun < 60
    assert (f'error: no answer from process 1 on {socket.gethostname()} for '
            '10 s') in log(run)


@pytest.mark.full
@pytest.mark.parametrize('before, after', [(1, 2), (2, 4), (4, 1)])
def test_run_goes_on_in_another_number_of_processes(config, tmp_path, before,
                                                    after, monkeypatch):
    """Stopped amid an epoch; 30 images in 4 processes are 7.5 each."""
    monkeypatch.setenv('PYTHONPATH', str(config.parent), prepend=os.pathsep)
    run = tmp_path / 'run'
    size = {1: 28, 2: 14, 4: 7}
    whole = tmp_path / 'whole'
    options = f'train_dataloader.batch_size={size[1]}',
    finish(start(config, whole, options=options), whole)
    with launched(
            config.with_name('slowly.py'), run, before,
            f'train_dataloader.batch_size={size[before]}') as launcher:
        assert wait_for(lambda: '[2][2/4]' in log(run), launcher, 120)
        launcher.terminate()
        assert launcher.wait(60) == 143
    done = final(run, sorted(run.glob('interim_*.pth'))[-1])['meta']
    assert done['iter'] in (6, 7)
    with launched(config, run, after, 'resume=True',
                  f'train_dataloader.batch_size={size[after]}') as launcher:
        assert launcher.wait(200) == 0, log(run)[-3000:]
    assert len(losses(run)) == 20
    torch.testing.assert_close(losses(run), losses(whole), rtol=1e-5, atol=0)
    for step, values in curves(run).items():
        assert values[-1].get('lr') == curves(whole)[step][0].get('lr')


SHARDED = 'model_wrapper_cfg.type=mmfd.FullySharded'
NO_EMA = 'custom_hooks=[]'


@pytest.mark.full
@pytest.mark.parametrize('count', [2, 4])
def test_shards_and_copies_give_the_losses_of_one_process(
        config, tmp_path, count):
    """20 updates; the last batch of an epoch has 24 images, the others 32."""
    found = {}
    for name, processes, options in (('alone', 1, ()), ('copies', count, ()),
                                     ('shards', count, (SHARDED, NO_EMA))):
        run = tmp_path / name
        with launched(config, run, processes,
                      f'train_dataloader.batch_size={32 // processes}',
                      'train_dataloader.drop_last=False',
                      *options) as launcher:
            assert launcher.wait(300) == 0, log(run)[-3000:]
        found[name] = losses(run)
    assert len(found['alone']) == 20
    for name in 'copies', 'shards':
        torch.testing.assert_close(
            found[name], found['alone'], rtol=1e-5, atol=0, msg=name)


@pytest.mark.full
def test_average_of_shards_is_one_message(config, tmp_path):
    run = tmp_path / 'run'
    with launched(config, run, 2, SHARDED) as launcher:
        assert launcher.wait(120) == 1
    assert ('error: EMAHook averages whole weights, of which a process has a '
            'part under model_wrapper_cfg.type=mmfd.FullySharded: take one of '
            'them out of the config') in log(run)


SRUN = '''#!{python}
"""What srun does, on this machine: as many tasks as asked for."""
import os, subprocess, sys
options = [a for a in sys.argv[1:] if a.startswith('--')]
options = options[:sys.argv[1:].index('{python}')]
command = sys.argv[1 + len(options):]
told = dict(o[2:].split('=') for o in options if '=' in o)
with open('{folder}/told', 'w') as file:
    print(*sys.argv[1:], sep='\\n', file=file)
count = int(told['ntasks'])
tasks = [subprocess.Popen(command, env=dict(
    os.environ, SLURM_PROCID=str(rank), SLURM_NTASKS=str(count),
    SLURM_LOCALID=str(rank), SLURM_JOB_ID='{job}',
    SLURM_TASKS_PER_NODE=str(count), SLURM_NODELIST='localhost',
    MASTER_ADDR='localhost')) for rank in range(count)]
sys.exit(max(task.wait() for task in tasks))
'''


@pytest.mark.full
def test_slurm_script_trains_in_the_tasks_of_a_stand_in_for_srun(
        config, tmp_path):
    run = tmp_path / 'run'
    srun = tmp_path / 'srun'
    srun.write_text(
        SRUN.format(
            python=sys.executable, folder=tmp_path, job=os.getpid() % 9999))
    srun.chmod(0o755)
    done = subprocess.run([
        'tools/slurm_train.sh', 'part', 'job', config, '--work-dir', run,
        '--cfg-options', 'train_dataloader.batch_size=15',
        'train_cfg.max_epochs=1'
    ],
                          capture_output=True,
                          text=True,
                          env=dict(
                              os.environ,
                              PATH=f'{tmp_path}:{os.environ["PATH"]}',
                              PYTHON=sys.executable,
                              GPUS='2',
                              SRUN_ARGS='--signal=USR1@120'))
    assert done.returncode == 0, done.stderr[-3000:]
    told = (tmp_path / 'told').read_text().split('\n')
    assert told[:9] == [
        '--partition=part', '--job-name=job', '--gres=gpu:2', '--ntasks=2',
        '--ntasks-per-node=2', '--cpus-per-task=8', '--kill-on-bad-exit=1',
        '--signal=USR1@120', sys.executable
    ]
    assert final(run, 'epoch_1.pth')['meta']['iter'] == 4
