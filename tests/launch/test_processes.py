"""One run in several processes is the run of one process."""
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch
from helpers import commands, runs
from helpers.commands import refused, run

from mmfd.errors import Refused
from mmfd.launch import processes

LAUNCHER = '-m', 'mmfd.launch.processes'


@pytest.fixture(scope='module')
def config(tmp_path_factory, shapes_root):
    """20 updates with 28 of 120 images, whose crops are the same each time."""
    file = tmp_path_factory.mktemp('processes') / 'fd.py'
    text = runs.CONFIG.format(repo=os.getcwd(), root=shapes_root)
    file.write_text(
        text.replace('drop_path_rate=0.2', 'drop_path_rate=0.') +
        "train_dataloader['batch_size'] = 28\n"
        "train_dataloader['dataset']['pipeline'] = resize\n"
        "val_dataloader['batch_size'] = 7\n"
        'train_cfg = dict(max_epochs=5, val_interval=9)\n'
        'log_processor = dict(window_size=1)\n')
    return file


@pytest.fixture(scope='module')
def alone(config):
    """The run that all others must equal, and its losses."""
    work_dir = config.parent / 'alone'
    runs.run(config, work_dir)
    losses = torch.tensor(runs.losses(work_dir))
    assert len(losses) == 20 and losses[-1] < losses[0]
    return work_dir, losses


@pytest.mark.parametrize(
    'count, accumulated',
    [
        (2, 1),
        (1, 4),  # 17 iterations an epoch, of which 16 make updates
        pytest.param(4, 1, marks=pytest.mark.full),
        pytest.param(2, 2, marks=pytest.mark.full),
    ])
def test_losses_of_twenty_updates_equal_those_of_one_process(
        config, alone, tmp_path, count, accumulated):
    runs.run(
        config,
        tmp_path / 'run',
        processes=count,
        options=[
            f'train_dataloader.batch_size={28 // count // accumulated}',
            f'optim_wrapper.accumulative_counts={accumulated}'
        ])
    losses = torch.tensor(runs.losses(tmp_path / 'run'))
    updates = losses.view(-1, accumulated).mean(1)
    torch.testing.assert_close(updates, alone[1], rtol=1e-5, atol=0)


def test_four_processes_judge_held_out_images_as_one_does(config, alone):
    """30 images in batches of 7: two are seen twice, and counted once."""
    found = []
    for count in 1, 4:
        log = runs.run(
            config,
            alone[0].with_name(f'test{count}'),
            alone[0] / 'epoch_5.pth',
            tool='test',
            processes=count)
        found.append(re.findall(r'(knn/top1|held_out/loss): ([\d.]+)', log))
    assert len(found[0]) == 2 and found[0] == found[1]


# --- processes of this machine ---


def launch(script, **options):
    """The exit status and output of two processes of a Python script."""
    return run(*LAUNCHER, 2, script, **options)


REFUSE = '''
from mmfd.errors import Refused
from mmfd.launch.command_line import one_message

with one_message():
    raise Refused('no image folder /nowhere')
'''


def test_one_mistake_is_one_message_from_two_processes(tmp_path):
    (tmp_path / 'refuse.py').write_text(REFUSE)
    assert refused(*LAUNCHER, 2, tmp_path /
                   'refuse.py') == ('error: no image folder /nowhere')


@pytest.mark.full
def test_training_that_is_refused_is_one_message_from_two_processes(
        config, tmp_path):
    message = refused(*LAUNCHER, 2, 'tools/train.py', config, '--launcher',
                      'pytorch', '--data-root', '/nowhere', '--work-dir',
                      tmp_path / 'run')
    assert 'no image folder /nowhere' in message
    assert not (tmp_path / 'run').exists()


WAIT = '''
import os, pathlib, time
pathlib.Path(os.environ['RANK']).write_text(str(os.getpid()))
time.sleep(600)
'''


@pytest.fixture
def waiting(tmp_path):
    """A launcher, and the pids of its two processes."""
    (tmp_path / 'wait.py').write_text(WAIT)
    launcher = commands.start(
        *LAUNCHER, 2, 'wait.py', log=tmp_path / 'log', cwd=tmp_path)
    files = [tmp_path / str(rank) for rank in range(2)]
    try:
        assert runs.wait_for(
            lambda: all(f.exists() and f.read_text() for f in files), launcher)
        yield launcher, [int(file.read_text()) for file in files]
    finally:
        launcher.kill()


def assert_ended(pid):
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_signal_to_the_launcher_ends_all_processes(waiting, tmp_path):
    launcher, pids = waiting
    launcher.terminate()
    output = commands.finish(launcher, tmp_path / 'log', 128 + 15)
    assert 'Traceback' not in output
    for pid in pids:
        assert_ended(pid)


def test_killed_process_ends_the_job_and_is_named(waiting, tmp_path):
    launcher, pids = waiting
    begun = time.monotonic()
    os.kill(pids[1], signal.SIGKILL)
    output = commands.finish(launcher, tmp_path / 'log', 1)
    assert time.monotonic() - begun < 60
    assert (f'error: process 1 (pid {pids[1]}) was ended by SIGKILL, as the '
            'kernel does where memory runs out; so all are. --resume goes on '
            'from the last checkpoint') in output
    assert_ended(pids[0])


def test_status_is_that_of_the_process_that_failed_first(tmp_path):
    (tmp_path / 'fail.py').write_text(
        'import os, sys, time\n'
        'time.sleep(600 * (os.environ["RANK"] == "0"))\nsys.exit(7)')
    assert launch(tmp_path / 'fail.py').status == 7


@pytest.mark.full
@pytest.mark.parametrize('times', [1, 2])
def test_ctrl_c_saves_in_all_processes_and_a_second_one_ends_them(
        config, tmp_path, times):
    """Processes agree one iteration later: on the third, after the fourth.

    The launcher passes the second Ctrl-C on as SIGTERM.
    """
    slow, work_dir = tmp_path / 'slow.py', tmp_path / 'run'
    slow.write_text(f"_base_ = '{config}'\n"
                    "custom_imports = dict(imports=['helpers.fault_hooks'])\n"
                    "custom_hooks = [dict(type='SlowIteration', iteration=3, "
                    f'seconds={5 if times == 1 else 60})]\n')
    launcher = commands.start(
        *LAUNCHER,
        2,
        'tools/train.py',
        slow,
        '--verbose',
        '--launcher',
        'pytorch',
        '--work-dir',
        work_dir,
        '--cfg-options',
        'train_dataloader.batch_size=12',
        'default_hooks.checkpoint.minutes=None',
        log=tmp_path / 'run.log',
        env=dict(PYTHONPATH=f'{os.getcwd()}:{os.getcwd()}/tests'))
    assert commands.wait_for(lambda: 'slow iteration' in runs.log(work_dir),
                             launcher, 200)
    for _ in range(times):
        os.kill(launcher.pid, signal.SIGINT)
        time.sleep(1.5)
    output = commands.finish(launcher, tmp_path / 'run.log', 130, seconds=25)
    assert 'Traceback' not in output
    saved = [file.name for file in work_dir.glob('*.pth')]
    assert saved == ([] if times == 2 else ['interim_4.pth'])


@pytest.fixture
def taken_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        yield server.getsockname()[1]


def test_port_in_use_is_one_message(taken_port):
    assert refused(
        *LAUNCHER, 2, 'x.py', env=dict(PORT=taken_port)) == (
            f'error: port {taken_port} is in use by another program: '
            'set PORT to a free one, or leave it out')


ENVIRONMENTS = [
    (dict(NNODES='2'),
     'error: NNODES=2: set MASTER_ADDR to the host of NODE_RANK=0'),
    (dict(NNODES='two'), 'error: NNODES=two: a whole number is expected'),
    (dict(NNODES='0'),
     'error: NNODES=0: expected is a number from 1 on, or LEAST:MOST'),
    (dict(NNODES='3:2'),
     'error: NNODES=3:2: expected is a number from 1 on, or LEAST:MOST'),
    (dict(NNODES='1:2', NODE_RANK=2, MASTER_ADDR='first'),
     'error: NODE_RANK=2 with NNODES=2: ranks count from 0 to 1'),
    (dict(NODE_RANK='-1'), 'error: NODE_RANK=-1: a whole number is expected'),
    (dict(NODE_RANK='1'),
     'error: NODE_RANK=1 with NNODES=1: ranks count from 0 to 0'),
    (dict(PORT='http'), 'error: PORT=http: a whole number is expected'),
    (dict(PORT=99999), 'error: PORT=99999: ports end at 65535'),
]


@pytest.mark.parametrize('env, message', ENVIRONMENTS)
def test_variable_that_makes_no_sense_is_one_message(env, message):
    assert refused(*LAUNCHER, 2, 'x.py', env=env) == message


@pytest.mark.parametrize('node', [0, 1])
def test_machine_that_is_left_alone_is_one_message(monkeypatch, node):
    monkeypatch.setattr(processes, 'JOIN_SECONDS', 1)
    port = runs.free_port()
    variables = dict(
        NNODES=2, NODE_RANK=node, PORT=port, MASTER_ADDR='127.0.0.1')
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(
            Refused,
            match=f'machine {node} of 2 has not found the others at '
            rf'127.0.0.1:{port} \(.*\): start tools/dist_train.sh on each'):
        processes.start(1, ['x.py'])


@pytest.mark.parametrize('arguments', [(), ('--resume', 'epoch_1.pth')])
def test_run_that_a_restart_would_begin_anew_is_refused(arguments):
    assert 'add --resume without a file' in refused(
        *LAUNCHER,
        2,
        'x.py',
        *arguments,
        env=dict(NNODES='1:2', MASTER_ADDR='127.0.0.1', PORT=0))


def test_no_processes_are_one_message():
    assert refused(*LAUNCHER, 0,
                   'x.py') == ('error: 0 processes: start one or more')


@pytest.mark.parametrize('arguments', [(), ('2', ), ('two', 'x.py')])
def test_launcher_without_arguments_says_how_to_call_it(arguments):
    status, output = run(*LAUNCHER, *arguments)
    assert status == 2 and f'python {LAUNCHER[0]} {LAUNCHER[1]}' in output


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    processes.check_devices(2)
    with pytest.raises(Refused, match='3 processes for 2 visible GPUs'):
        processes.start(3, [])


# --- processes that others have started ---

TORCHRUN = dict(
    RANK=0,
    WORLD_SIZE=1,
    LOCAL_RANK=0,
    LOCAL_WORLD_SIZE=1,
    MASTER_ADDR='127.0.0.1')


@pytest.mark.parametrize('backend, named', [
    ('nccl', torch.device('cuda', 1)),
    ('cpu:gloo,cuda:nccl', torch.device('cuda', 1)),
    ('gloo', None),
])
def test_process_tells_nccl_its_gpu(monkeypatch, backend, named):
    """On a machine that seems to have two."""
    given = dict(TORCHRUN, RANK=5, LOCAL_RANK=1, MASTER_PORT=29500)
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen := [].append)
    told = {}
    monkeypatch.setattr(
        torch.distributed,
        'init_process_group',
        lambda backend=None, timeout=None, device_id=None: told.update(
            device_id=device_id))
    processes.join('pytorch', backend)
    assert told == dict(device_id=named)
    assert chosen.__self__ == [torch.device('cuda', 1)]


def test_port_in_use_is_one_message_under_other_launchers(config, taken_port):
    assert f'port {taken_port} is in use' in refused(
        'train',
        config,
        '--launcher',
        'pytorch',
        env=dict(TORCHRUN, MASTER_PORT=taken_port))


def test_process_that_is_left_alone_is_one_message(config):
    port = runs.free_port()
    assert re.match(
        f'error: process 0 of 2 does not find the others at 127.0.0.1:{port} '
        r'\(.*\): start all of them, and check MASTER_ADDR and PORT, and '
        'where a machine is in several networks GLOO_SOCKET_IFNAME and '
        'NCCL_SOCKET_IFNAME$',
        refused(
            'train',
            config,
            '--launcher',
            'pytorch',
            '--cfg-options',
            'env_cfg.dist_cfg.timeout=1',
            env=dict(TORCHRUN, WORLD_SIZE=2, MASTER_PORT=port)))


@pytest.mark.parametrize('option, message', [
    ('env_cfg.dist_cfg.timeout=long', "env_cfg.dist_cfg.timeout='long': "),
    ('env_cfg.dist_cfg.backend=None', 'is not set'),
    ('env_cfg.dist_cfg=[1]', 'env_cfg.dist_cfg is [1]: a dict is expected'),
])
def test_dist_cfg_that_makes_no_sense_is_one_message(config, option, message):
    assert message in refused('train', config, '--launcher', 'pytorch',
                              '--cfg-options', option)


@pytest.mark.parametrize('launcher, name', [('pytorch', 'RANK'),
                                            ('slurm', 'SLURM_PROCID')])
def test_launcher_that_started_nothing_is_refused(config, launcher, name):
    assert f'{name} is not set' in refused('train', config, '--launcher',
                                           launcher)


def test_rank_that_is_no_number_is_refused(config):
    assert 'RANK=first: a whole number is expected' in refused(
        'train',
        config,
        '--launcher',
        'pytorch',
        env=dict(TORCHRUN, MASTER_PORT=1, RANK='first'))


# --- SLURM ---

SLURM = dict(
    SLURM_PROCID='5',
    SLURM_NTASKS='8',
    SLURM_LOCALID='1',
    SLURM_JOB_ID='1234567',
    SLURM_TASKS_PER_NODE='8(x2)')


def test_slurm_tasks_find_each_other(config, tmp_path):
    """Two tasks as `srun` would start them, with a `scontrol` of our own."""
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$3" = "localhost" ] && echo $3\n')
    scontrol.chmod(0o755)
    port = runs.free_port()
    tasks = [
        commands.start(
            'train',
            config,
            '--launcher',
            'slurm',
            '--dry-run',
            '--cfg-options',
            'train_dataloader.batch_size=4',
            log=tmp_path / f'{rank}.log',
            env=dict(
                PATH=f'{tmp_path}:{os.environ["PATH"]}',
                SLURM_PROCID=rank,
                SLURM_NTASKS=2,
                SLURM_LOCALID=0,
                SLURM_TASKS_PER_NODE='1(x2)',
                SLURM_NODELIST='localhost',
                SLURM_JOB_ID=1,
                MASTER_PORT=port,
                OMP_NUM_THREADS=1)) for rank in range(2)
    ]
    first, second = [
        commands.finish(task, tmp_path / f'{rank}.log')
        for rank, task in enumerate(tasks)
    ]
    assert '4 x 2 processes x 1 accumulated = 8 images an update' in first
    assert '10 iterations of 75 done' in first
    assert 'iterations of' not in second


def test_step_of_a_slurm_job_goes_before_the_job():
    """`scontrol` is not called where MASTER_ADDR is set: in a container."""
    variables = processes.slurm_variables(
        dict(SLURM, SLURM_STEP_TASKS_PER_NODE='4(x2)', MASTER_ADDR='first'))
    assert variables == dict(
        RANK='5',
        WORLD_SIZE='8',
        LOCAL_RANK='1',
        LOCAL_WORLD_SIZE='4',
        MASTER_ADDR='first',
        MASTER_PORT='34567')


def test_slurm_without_scontrol_names_the_way_out(monkeypatch):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(Refused, match=r'first host of n\[1-4\].*MASTER_ADDR'):
        processes.slurm_variables(dict(SLURM, SLURM_NODELIST='n[1-4]'))


@pytest.mark.parametrize('name', SLURM)
def test_missing_variable_of_slurm_is_named(name):
    environ = {k: v for k, v in SLURM.items() if k != name}
    with pytest.raises(Refused, match=f'{name} is not set: start with tools/'):
        processes.slurm_variables(dict(environ, MASTER_ADDR='first'))


# --- the scripts ---


def script(name, *args, **environment):
    done = subprocess.run([f'tools/{name}.sh', *args],
                          capture_output=True,
                          text=True,
                          env=dict(os.environ, **environment))
    return done.returncode, done.stdout + done.stderr


def test_scripts_without_arguments_say_how_to_call_them():
    for name in 'dist_train', 'dist_test', 'slurm_train':
        status, output = script(name)
        assert status == 2 and f'tools/{name}.sh ' in output


def test_scripts_start_the_tools_with_the_rest_of_their_arguments(tmp_path):
    assert script(
        'dist_train', 'c.py', '2', '--amp', PYTHON='echo'
    ) == (0,
          '-m mmfd.launch.processes 2 tools/train.py c.py --launcher pytorch '
          '--amp\n')
    assert script(
        'dist_test', 'c.py', 'f.pth', '4', PYTHON='echo') == (
            0,
            '-m mmfd.launch.processes 4 tools/test.py c.py f.pth --launcher '
            'pytorch\n')
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    assert script(
        'slurm_train',
        'part',
        'job',
        'c.py',
        '--resume',
        PYTHON='python',
        GPUS='2',
        SRUN_ARGS='--signal=USR1@120',
        PATH=f'{tmp_path}:{os.environ["PATH"]}') == (
            0, '--partition=part --job-name=job --gres=gpu:2 --ntasks=2 '
            '--ntasks-per-node=2 --cpus-per-task=8 --kill-on-bad-exit=1 '
            '--signal=USR1@120 python -u tools/train.py c.py --launcher slurm '
            '--resume\n')


def test_scripts_can_be_called_from_anywhere(tmp_path):
    done = subprocess.run([Path('tools/dist_train.sh').resolve(), 'c.py', '2'],
                          capture_output=True,
                          text=True,
                          cwd=tmp_path,
                          env=dict(os.environ, PYTHON='echo'))
    assert f'{os.getcwd()}/tools/train.py c.py' in done.stdout
