"""One run in several processes, on GPUs or on CPUs, here or on a cluster."""
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mmfd.errors import Refused

TOLD_BY_TORCHRUN = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE',
                    'MASTER_ADDR', 'MASTER_PORT')


def join(launcher, backend='nccl', timeout=1800, **kwargs):
    """Make this process one of its run's.

    In the place of the host's `init_dist`, which needs a GPU: without one,
    processes talk through gloo, whatever `backend` says.

    Args:
        launcher (str): who started it, `pytorch` (torchrun) or `slurm`.
        timeout (float): seconds to wait for the others.

    Raises:
        Refused: if nobody started several, there are more of them than
            GPUs, or their port is in use.
    """
    if launcher == 'slurm':
        os.environ.update(_told_by_slurm())
    missing = [name for name in TOLD_BY_TORCHRUN if name not in os.environ]
    if missing:
        raise Refused(
            f'--launcher {launcher}, but {missing[0]} is not set: start with '
            'tools/dist_train.sh CONFIG PROCESSES, tools/slurm_train.sh or '
            'torchrun')
    if torch.cuda.is_available():
        if launcher == 'slurm' and torch.cuda.device_count() == 1:
            os.environ['LOCAL_RANK'] = '0'  # SLURM binds a GPU to each task
        else:
            check_devices(int(os.environ['LOCAL_WORLD_SIZE']))
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    else:
        backend = 'gloo'
    try:
        distributed.init_process_group(
            backend, timeout=timedelta(seconds=timeout), **kwargs)
    except distributed.DistNetworkError as error:
        if 'EADDRINUSE' not in str(error):
            raise
        raise Refused(_in_use(os.environ['MASTER_PORT'])) from None


def rank():
    """Which of the run's processes this is, joined or not."""
    return int(os.environ.get('RANK') or os.environ.get('SLURM_PROCID') or 0)


def check_devices(processes):
    """Refuse more processes than GPUs, where there are GPUs."""
    devices = torch.cuda.device_count()
    if 0 < devices < processes:
        raise Refused(
            f'{processes} processes for {devices} visible GPUs: start '
            f'{devices} or fewer, or set CUDA_VISIBLE_DEVICES')


def _in_use(port):
    return (f'port {port} is in use by another program: set PORT to a free '
            'one, or leave it out')


def _told_by_slurm(environ=os.environ):
    """What torchrun would say, from what SLURM says of this job step."""
    if 'SLURM_PROCID' not in environ:
        raise Refused('--launcher slurm, but SLURM_PROCID is not set: '
                      'start with tools/slurm_train.sh or srun')

    def told(name):  # of the step, which may be a part of the job
        return environ.get(f'SLURM_STEP_{name}') or environ[f'SLURM_{name}']

    port = 20000 + int(environ['SLURM_JOB_ID']) % 20000  # one per job
    return dict(
        RANK=environ['SLURM_PROCID'],
        WORLD_SIZE=environ['SLURM_NTASKS'],
        LOCAL_RANK=environ['SLURM_LOCALID'],
        LOCAL_WORLD_SIZE=re.match(r'\d+', told('TASKS_PER_NODE'))[0],
        MASTER_ADDR=environ.get('MASTER_ADDR')
        or _first_host(told('NODELIST')),
        MASTER_PORT=environ.get('MASTER_PORT', str(port)))


def _first_host(nodes):
    try:
        return subprocess.run(['scontrol', 'show', 'hostnames', nodes],
                              capture_output=True,
                              text=True,
                              check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise Refused(
            f'scontrol does not tell the first host of {nodes} ({error}): set '
            'MASTER_ADDR to it, as in a container') from None


def start(processes, command):
    """Run a command in several processes of this machine; wait for them.

    Of several machines, `NNODES`, `NODE_RANK`, `MASTER_ADDR` and `PORT` in
    the environment tell which this is and where the first is. One machine
    finds a free port itself.

    Args:
        processes (int): how many, here.
        command (list[str]): a Python script and its arguments.

    Raises:
        Refused: for more processes than GPUs, a port in use, or several
            machines without MASTER_ADDR.
    """
    check_devices(processes)
    nodes, rank = (int(os.environ.get(name, default))
                   for name, default in (('NNODES', 1), ('NODE_RANK', 0)))
    if nodes > 1 and 'MASTER_ADDR' not in os.environ:
        raise Refused(f'NNODES={nodes}: set MASTER_ADDR to the host of '
                      'NODE_RANK=0')
    address = os.environ.get('MASTER_ADDR', '127.0.0.1')
    port = os.environ.get('PORT', '29500' if nodes > 1 else '0')
    if rank == 0:
        port = _bindable(port)
    if not torch.cuda.is_available():  # else every process takes all cores
        cores = len(os.sched_getaffinity(0))
        os.environ.setdefault('OMP_NUM_THREADS',
                              str(max(cores // processes, 1)))
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=processes,
        rdzv_backend='static',
        rdzv_endpoint=f'{address}:{port}',
        rdzv_configs=dict(rank=rank, timeout=900),
        signals_to_handle='SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1',
        max_restarts=0)
    try:
        elastic_launch(config, sys.executable)('-u', *command)
    except ChildFailedError as error:
        sys.exit(_ended_by(error.failures))
    except SignalException as stop:
        sys.exit(128 + stop.sigval)


def _ended_by(failures):
    """The exit status, or a message where a process could not say its own."""
    # the launcher ends those that are left by SIGTERM
    rank, first = min(
        failures.items(),
        key=lambda f:
        (f[1].exitcode == -signal.SIGTERM, f[1].exitcode > 0, f[1].timestamp))
    if first.exitcode > 0:  # it has said itself what it had to say
        return first.exitcode
    why = ', as the kernel does where memory runs out' * (
        first.exitcode == -signal.SIGKILL)
    return (f'error: process {rank} (pid {first.pid}) was ended by '
            f'{first.signal_name()}{why}; so all are. --resume goes on from '
            'the last checkpoint')


def _bindable(port):
    """The port if nobody has it; a free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', int(port)))
        except OSError:
            raise Refused(_in_use(port)) from None
        return probe.getsockname()[1]


if __name__ == '__main__':
    try:
        start(int(sys.argv[1]), sys.argv[2:])
    except Refused as error:
        sys.exit(f'error: {error}')
