"""One run in several processes is the run of one process."""
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_tools import refused

from mmfd.launch import processes

CONFIG = '''
_base_ = '{repo}/configs/demo/simclr_fd.py'
model = dict(backbone=dict(drop_path_rate=0.))
resize = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=48, backend='pillow'),
    dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=resize))
val_dataloader = dict(
    batch_size=7, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=4)  # of 5 updates with 24 of 120 images
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
'''


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp('processes') / 'fd.py'
    file.write_text(CONFIG.format(repo=os.getcwd()))
    return file


def launched(script, *args, **environment):
    done = subprocess.run([f'tools/{script}.sh', *map(str, args)],
                          capture_output=True,
                          text=True,
                          env=dict(
                              os.environ, PYTHON=sys.executable,
                              **environment))
    return done.returncode, done.stdout + done.stderr


def train(config, data, run, count, *options):
    code, log = launched('dist_train', config, count, '--data-root', data,
                         '--work-dir', run, '--cfg-options', *options)
    assert code == 0, log[-3000:]
    return logged_losses(run)


def logged_losses(run):
    [scalars] = Path(run).glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    return torch.tensor([line['loss'] for line in lines if 'loss' in line])


@pytest.fixture(scope='module')
def alone(config, shapes_root):
    """The run that all others must equal, and its losses."""
    run = config.parent / 'alone'
    losses = train(config, shapes_root / 'imagenet', run, 1,
                   'train_dataloader.batch_size=24')
    assert len(losses) == 20 and losses[-1] < 0.8 * losses[0]
    return run, losses


@pytest.mark.parametrize('count, accumulated', [
    (2, 1),
    (1, 2),
    pytest.param(4, 1, marks=pytest.mark.full),
    pytest.param(2, 2, marks=pytest.mark.full),
])
def test_losses_of_twenty_updates_equal_those_of_one_process(
        config, shapes_root, alone, tmp_path, count, accumulated):
    losses = train(
        config, shapes_root / 'imagenet', tmp_path / 'run', count,
        f'train_dataloader.batch_size={24 // count // accumulated}',
        f'optim_wrapper.accumulative_counts={accumulated}')
    updates = losses.view(-1, accumulated).mean(1)
    torch.testing.assert_close(updates, alone[1], rtol=1e-5, atol=0)


def test_four_processes_judge_held_out_images_as_one_does(
        config, shapes_root, alone):
    """30 images in batches of 7: two are seen twice, and counted once."""
    found = []
    for count in 1, 4:
        code, log = launched('dist_test', config, alone[0] / 'epoch_4.pth',
                             count, '--data-root', shapes_root / 'imagenet',
                             '--work-dir', alone[0])
        assert code == 0, log[-3000:]
        found.append(re.findall(r'(knn/top1|held_out/loss): ([\d.]+)', log))
    assert len(found[0]) == 2 and found[0] == found[1]


def test_one_mistake_is_one_message_from_two_processes(config, tmp_path):
    code, log = launched('dist_train', config, 2, '--data-root', '/nowhere',
                         '--work-dir', tmp_path / 'run')
    assert code == 1
    assert log.count('error: ') == 1 and 'no image folder /nowhere' in log
    assert 'Traceback' not in log
    assert not (tmp_path / 'run').exists()


def test_signal_to_the_launcher_ends_all_processes(tmp_path):
    script = tmp_path / 'wait.py'
    script.write_text('import os, time\nprint(os.getpid(), flush=True)\n'
                      'time.sleep(600)\n')
    with subprocess.Popen(
        [sys.executable, '-m', 'mmfd.launch.processes', '2', script],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE) as launcher:
        children = [int(launcher.stdout.readline()) for _ in range(2)]
        launcher.terminate()
        said = launcher.communicate()[1]
    assert launcher.returncode == 128 + 15 and 'Traceback' not in said
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@pytest.fixture
def taken_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        yield server.getsockname()[1]


def test_port_in_use_is_one_message(config, taken_port):
    code, log = launched('dist_train', config, 2, PORT=str(taken_port))
    assert code == 1
    assert log == (f'error: port {taken_port} is in use by another program: '
                   'set PORT to a free one, or leave it out\n')


def test_port_in_use_is_one_message_under_other_launchers(
        config, taken_port, monkeypatch):
    told = dict(
        RANK=0,
        WORLD_SIZE=1,
        LOCAL_RANK=0,
        LOCAL_WORLD_SIZE=1,
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=taken_port)
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    assert f'port {taken_port} is in use' in refused(monkeypatch, 'train',
                                                     config, '--launcher',
                                                     'pytorch')


@pytest.mark.parametrize('launcher, name', [('pytorch', 'RANK'),
                                            ('slurm', 'SLURM_PROCID')])
def test_launcher_that_started_nothing_is_refused(config, monkeypatch,
                                                  launcher, name):
    assert f'{name} is not set' in refused(monkeypatch, 'train', config,
                                           '--launcher', launcher)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    processes.check_devices(2)
    with pytest.raises(ValueError, match='3 processes for 2 visible GPUs'):
        processes.start(3, [])


def test_slurm_tasks_find_each_other(config, shapes_root, tmp_path):
    """Two tasks as `srun` would start them, with a `scontrol` of our own."""
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$3" = "localhost" ] && echo $3\n')
    scontrol.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    tasks = [
        subprocess.Popen([
            sys.executable, 'tools/train.py', config, '--launcher', 'slurm',
            '--dry-run', '--data-root', shapes_root / 'imagenet',
            '--cfg-options', 'train_dataloader.batch_size=4'
        ],
                         text=True,
                         stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT,
                         env=dict(
                             os.environ,
                             PATH=f'{tmp_path}:{os.environ["PATH"]}',
                             SLURM_PROCID=str(rank),
                             SLURM_NTASKS='2',
                             SLURM_LOCALID='0',
                             SLURM_TASKS_PER_NODE='1(x2)',
                             SLURM_NODELIST='localhost',
                             SLURM_JOB_ID='1',
                             MASTER_PORT=str(port),
                             OMP_NUM_THREADS='1')) for rank in range(2)
    ]
    first, second = [task.communicate()[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], first[-3000:]
    assert '4 x 2 processes x 1 accumulated = 8 images an update' in first
    assert '10 iterations of 60 done' in first
    assert 'iterations of' not in second


def test_step_of_a_slurm_job_goes_before_the_job():
    """`scontrol` is not asked where MASTER_ADDR is told: in a container."""
    told = processes.slurm_variables(
        dict(
            SLURM_PROCID='5',
            SLURM_NTASKS='8',
            SLURM_LOCALID='1',
            SLURM_JOB_ID='1234567',
            SLURM_TASKS_PER_NODE='8(x2)',
            SLURM_STEP_TASKS_PER_NODE='4(x2)',
            MASTER_ADDR='first'))
    assert told == dict(
        RANK='5',
        WORLD_SIZE='8',
        LOCAL_RANK='1',
        LOCAL_WORLD_SIZE='4',
        MASTER_ADDR='first',
        MASTER_PORT='34567')


def test_slurm_without_scontrol_names_the_way_out(monkeypatch):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(ValueError, match='first host of .*MASTER_ADDR'):
        processes._first_host('n[1-4]')


def test_several_machines_have_to_know_the_first(config):
    code, log = launched('dist_train', config, 2, NNODES='2')
    assert code == 1
    assert log == ('error: NNODES=2: set MASTER_ADDR to the host of '
                   'NODE_RANK=0\n')


def test_scripts_without_arguments_say_how_to_call_them():
    for script in 'dist_train', 'dist_test', 'slurm_train':
        code, log = launched(script)
        assert code == 2 and f'tools/{script}.sh ' in log
