"""One run on two hosts, which are network namespaces of this machine."""
import os
import re
import subprocess
import sys

import pytest
import torch
from helpers import runs, two_hosts
from helpers.runs import CONFIG, curves, final, log, wait_for
from mmengine.config import Config

from mmfd.planning.cluster import Machines, demands
from mmfd.planning.plan import Plan

pytestmark = pytest.mark.full
TIMEOUT = 20  # seconds, of env_cfg.dist_cfg


@pytest.fixture(scope='module')
def possible():
    if reason := two_hosts.missing():
        pytest.skip(reason)


@pytest.fixture
def hosts(possible):
    with two_hosts.Hosts() as hosts:
        yield hosts


@pytest.fixture(scope='module')
def config(tmp_path_factory, shapes_root):
    """20 updates; the crops depend on nothing but the image."""
    file = tmp_path_factory.mktemp('machines') / 'fd.py'
    text = CONFIG.format(repo=os.getcwd(), root=shapes_root)
    file.write_text(
        text.replace('drop_path_rate=0.2', 'drop_path_rate=0.') +
        'train_cfg = dict(max_epochs=5, val_interval=9)\n'
        f'env_cfg = dict(dist_cfg=dict(timeout={TIMEOUT}))\n')
    return file


@pytest.fixture(scope='module')
def alone(config):
    """The losses of one process, which all others must equal."""
    run = config.with_name('alone')
    runs.run(config, run, options=['train_dataloader.batch_size=28'])
    found = losses(run)
    assert len(found) == 20 and found[-1] < found[0]
    return found


def losses(run):
    return torch.tensor([
        values[-1]['loss']
        for (kind, _), values in sorted(curves(run).items()) if kind == 'train'
    ])


def launch(hosts, host, config, run, *options, **environment):
    """tools/dist_train.sh with two processes on one host."""
    command = [
        'tools/dist_train.sh', config, '2', '--verbose', '--resume',
        '--work-dir', run, '--cfg-options', *options
    ]
    launcher = hosts.start(
        host, command, f'{run}.{host}.log', **{
            **dict(
                PYTHON=sys.executable,
                NNODES=2,
                NODE_RANK=host,
                MASTER_ADDR=two_hosts.ADDRESSES[0]),
            **environment
        })
    launcher.is_alive = lambda: launcher.poll() is None
    return launcher


def launch_both(hosts, config, run, **environment):
    """Two processes on each, until an epoch and two iterations are done."""
    launchers = [
        launch(hosts, host, config, run, 'train_dataloader.batch_size=7',
               **environment) for host in range(2)
    ]
    assert wait_for(lambda: '[2][2/4]' in printed(run, 0), launchers[0],
                    240), printed(run, 0)[-3000:] + printed(run, 1)[-3000:]
    return launchers


def printed(run, host):
    return log(f'{run}.{host}')


def message(run, host):
    """The one message with which a host's processes end."""
    assert 'Traceback' not in printed(run, host)
    _, *messages = printed(run, host).split('\nerror: ')
    assert len(messages) == 1, printed(run, host)[-3000:]
    return messages[0].rstrip('\n')


def test_losses_of_two_hosts_equal_those_of_one_process(
        config, alone, hosts, tmp_path):
    run = tmp_path / 'run'
    for launcher in launch_both(hosts, config, run):
        assert launcher.wait(120) == 0, printed(run, 0)[-3000:]
    torch.testing.assert_close(losses(run), alone, rtol=1e-5, atol=0)


def test_a_cable_carries_what_a_plan_counts(config, hosts, tmp_path):
    """Beside the weights once, at the start, and what TCP and votes add."""
    file = tmp_path / 'wide.py'
    text = config.read_text()
    for narrow, wide in (('embed_dims=32', 'embed_dims=192'), ('channels=32',
                                                               'channels=192'),
                         ('feedforward_channels=64',
                          'feedforward_channels=768')):
        assert narrow in text
        text = text.replace(narrow, wide)
    file.write_text(text)
    run, before = tmp_path / 'run', [hosts.sent(host) for host in range(2)]
    for launcher in launch_both(hosts, file, run):
        assert launcher.wait(240) == 0, printed(run, 0)[-3000:]
    cfg = Config.fromfile(file)
    plan = Plan(cfg, gpus=4)
    needed = {
        q.name: q.value
        for q in demands(plan, Machines(nodes=2), throughput=1.)
    }
    weights = 4 * sum(p.numel() for p in plan.trained)
    assert needed['gradients'] == 1.5 * weights
    for host in range(2):
        sent = hosts.sent(host) - before[host]
        assert 20 * needed['gradients'] < sent
        assert sent < 1.3 * (20 * needed['gradients'] + weights)


def test_cut_cable_ends_both_hosts_and_one_of_them_goes_on(
        config, alone, hosts, tmp_path):
    run = tmp_path / 'run'
    launchers = launch_both(hosts, config, run)
    hosts.cut()
    for launcher in launchers:
        assert launcher.wait(TIMEOUT + 40) == 1
    ending = (f'for {TIMEOUT} s, which is env_cfg.dist_cfg.timeout; it hangs, '
              'or its machine or network is gone. --resume goes on from the '
              'last checkpoint')
    assert message(run,
                   0) == (f'no answer from processes 2, 3 on second {ending}')
    assert message(
        run,
        1) == (f'no answer from the first process, at 10.77.0.1, {ending}')
    assert not [*run.glob('*.part')]
    launcher = launch(
        hosts, 0, config, run, 'train_dataloader.batch_size=14', NNODES=1)
    assert launcher.wait(240) == 0, printed(run, 0)[-3000:]
    torch.testing.assert_close(losses(run), alone, rtol=1e-5, atol=0)


def test_host_whose_processes_are_killed_is_named_by_the_other(
        config, hosts, tmp_path):
    run = tmp_path / 'run'
    launchers = launch_both(hosts, config, run)
    hosts.kill_all(1)
    assert launchers[0].wait(60) == 1
    assert message(run, 0) == (
        'the connection to processes 2, 3 on second was closed, as where '
        'memory runs out or a machine is switched off: see what is printed '
        'there. --resume goes on from the last checkpoint')


@pytest.mark.parametrize('cable_is_cut', [True, False])
def test_elastic_run_goes_on_by_itself_where_a_host_is_left_alone(
        config, hosts, tmp_path, cable_is_cut):
    """Its epochs then have eight iterations of 14 images in place of four."""
    run = tmp_path / 'run'
    launchers = launch_both(hosts, config, run, NNODES='1:2')
    lost = 'error: the connection to processes '
    if cable_is_cut:
        lost = f'error: no answer from processes 2, 3 on second for {TIMEOUT}'
        hosts.cut()
    else:
        hosts.kill_all(1)
    assert launchers[0].wait(300) == 0, printed(run, 0)[-3000:]
    assert lost in printed(run, 0)
    assert 'resumed epoch: 1, iter: ' in printed(run, 0)
    assert final(run, 'epoch_5.pth')['meta']['iter'] == 40
    if cable_is_cut:
        assert 'error: no answer from the first process' in printed(run, 1)


# Python's clock, and that by which the elastic launcher counts as lost who is
# silent for 15 s; libfaketime lets Python's own sleep fail
BEHIND = '''
import time
from torch.distributed.elastic.rendezvous import dynamic_rendezvous as module
now, Moment = time.time, module.datetime

class Behind:

    @staticmethod
    def now(tz=None):
        return Moment.fromtimestamp(time.time(), tz)

time.time = lambda: now() - 3600
module.datetime = Behind
'''


@pytest.mark.parametrize('nodes', ['2', '1:2'])
def test_clock_an_hour_behind_changes_nothing_or_is_one_message(
        config, alone, hosts, tmp_path, nodes):
    """An elastic run goes on without that host, so with half the images."""
    run = tmp_path / 'run'
    (tmp_path / 'sitecustomize.py').write_text(BEHIND)
    behind = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    launchers = [
        launch(
            hosts,
            host,
            config,
            run,
            'train_dataloader.batch_size=7',
            NNODES=nodes,
            **dict(PYTHONPATH=behind) if host else {}) for host in range(2)
    ]
    assert launchers[0].wait(300) == 0, printed(run, 0)[-3000:]
    if nodes == '2':
        assert launchers[1].wait(60) == 0
        torch.testing.assert_close(losses(run), alone, rtol=1e-5, atol=0)
    else:
        assert launchers[1].wait(60) == 1
        assert re.match(
            r'machine 1 of 2 has not found the others at .*, PORT, NNODES, '
            'the network between them and their clocks$', message(run, 1))
        assert final(run, 'epoch_5.pth')['meta']['iter'] == 40


SRUN = '''#!{python}
"""What srun does for two hosts with two tasks each."""
import os, subprocess, sys
command = sys.argv[sys.argv.index({python!r}):]
tasks = [
    subprocess.Popen([*enter, *command], env=dict(
        os.environ, SLURM_PROCID=str(2 * host + task), SLURM_NTASKS='4',
        SLURM_LOCALID=str(task), SLURM_JOB_ID='9499',
        SLURM_TASKS_PER_NODE='2(x2)', SLURM_NODELIST='host[1-2]'))
    for host, enter in enumerate({enters}) for task in range(2)]
sys.exit(max(task.wait() for task in tasks))
'''
SCONTROL = '''#!/bin/sh
[ "$*" = "show hostnames host[1-2]" ] && printf '10.77.0.1\\n10.77.0.2\\n'
'''


def test_slurm_script_trains_on_two_hosts_with_a_slow_cable(
        config, alone, hosts, tmp_path):
    """With stand-ins for `srun` and `scontrol`; 20 Mbit a second."""
    programs = dict(
        srun=SRUN.format(
            python=sys.executable, enters=[hosts.enter(0),
                                           hosts.enter(1)]),
        scontrol=SCONTROL)
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    hosts.slow('20mbit')
    run = tmp_path / 'run'
    done = subprocess.run([
        'tools/slurm_train.sh', 'part', 'job', config, '--work-dir', run,
        '--cfg-options', 'train_dataloader.batch_size=7'
    ],
                          capture_output=True,
                          text=True,
                          timeout=400,
                          env=dict(
                              os.environ,
                              PATH=f'{tmp_path}:{os.environ["PATH"]}',
                              PYTHON=sys.executable,
                              OMP_NUM_THREADS='1',
                              GPUS='4',
                              GPUS_PER_NODE='2'))
    assert done.returncode == 0, done.stderr[-3000:]
    torch.testing.assert_close(losses(run), alone, rtol=1e-5, atol=0)
