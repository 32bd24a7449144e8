"""One run in several processes, on GPUs or CPUs, here or on a cluster.

    python -m mmfd.launch.processes COUNT SCRIPT [ARGUMENTS]
"""
import inspect
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import elastic_launch

from mmfd.errors import Refused
from mmfd.hosts import pytorch, pytorch_errors, system
from mmfd.launch import lost_processes

# Environment variables that torchrun sets
OF_TORCHRUN = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE',
               'MASTER_ADDR', 'MASTER_PORT')
NETWORKS = (', and where a machine is in several networks GLOO_SOCKET_IFNAME '
            'and NCCL_SOCKET_IFNAME')
JOIN_SECONDS = 900  # that machines may start after each other
RESTARTS = 3  # of a run whose number of machines may change


def join(launcher, backend='nccl', timeout=1800, **kwargs):
    """Make this process one of its run's.

    In the place of the host's `init_dist`, which needs a GPU: without one,
    processes talk through gloo, whatever `backend` says.

    Args:
        launcher (str): who started it, `pytorch` (torchrun) or `slurm`.
        timeout (float): seconds to wait for the others.
        **kwargs: of `torch.distributed.init_process_group`.

    Raises:
        Refused: if nobody started several, there are more of them than
            GPUs, their port is in use, or they do not find each other.
    """
    try:
        inspect.signature(distributed.init_process_group).bind(
            backend, timeout=timedelta(seconds=timeout), **kwargs)
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused(f'env_cfg.dist_cfg: {error}') from error
    if launcher == 'slurm':
        os.environ.update(slurm_variables(os.environ))
    missing = [name for name in OF_TORCHRUN if name not in os.environ]
    if missing:
        raise Refused(
            f'--launcher {launcher}, but {missing[0]} is not set: start with '
            'tools/dist_train.sh CONFIG PROCESSES, tools/slurm_train.sh or '
            'torchrun')
    numbers = {
        name: _number(name, os.environ[name])
        for name in OF_TORCHRUN if name != 'MASTER_ADDR'
    }
    if torch.cuda.is_available():
        if launcher == 'slurm' and torch.cuda.device_count() == 1:
            os.environ['LOCAL_RANK'] = '0'  # SLURM binds a GPU to each task
        else:
            check_devices(numbers['LOCAL_WORLD_SIZE'])
        device = torch.device('cuda', int(os.environ['LOCAL_RANK']))
        torch.cuda.set_device(device)
        if 'nccl' in backend:  # it would guess by the rank
            kwargs.setdefault('device_id', device)
    else:
        backend = 'gloo'
    several = numbers['LOCAL_WORLD_SIZE'] < numbers['WORLD_SIZE']  # machines
    if several:
        # gloo would take the address of this machine's name, or loopback
        interface = system.interface_of(
            system.address_towards(os.environ['MASTER_ADDR']))
        if interface:
            os.environ.setdefault('GLOO_SOCKET_IFNAME', interface)
    try:
        distributed.init_process_group(
            backend, timeout=timedelta(seconds=timeout), **kwargs)
    except RuntimeError as error:
        if not pytorch_errors.is_of_another_process(error):
            raise
        port = numbers['MASTER_PORT']
        if pytorch_errors.port_in_use(error):
            raise Refused(_in_use(port)) from None
        raise Refused(
            f'process {numbers["RANK"]} of {numbers["WORLD_SIZE"]} does not '
            f'find the others at {os.environ["MASTER_ADDR"]}:{port} '
            f'({str(error).splitlines()[0]}): start all of them, and check '
            'MASTER_ADDR and PORT' + several * NETWORKS) from error
    lost_processes.introduce()


def check_devices(processes):
    """Refuse more processes than GPUs, where there are GPUs."""
    devices = torch.cuda.device_count()
    if 0 < devices < processes:
        raise Refused(
            f'{processes} processes for {devices} visible GPUs: start '
            f'{devices} or fewer, or set CUDA_VISIBLE_DEVICES')


def slurm_variables(environ):
    """The variables of torchrun, from those that SLURM sets for a job step.

    Args:
        environ (dict): environment of one task.

    Returns:
        dict: name -> str.

    Raises:
        Refused: if one is missing, or the first host cannot be found.
    """

    def of_job(name):
        if f'SLURM_{name}' not in environ:
            raise Refused(f'--launcher slurm, but SLURM_{name} is not set: '
                          'start with tools/slurm_train.sh or srun')
        return environ[f'SLURM_{name}']

    def of_step(name):  # which may be a part of the job
        return environ.get(f'SLURM_STEP_{name}') or of_job(name)

    task = of_job('PROCID')
    job = _number('SLURM_JOB_ID', of_job('JOB_ID'))
    return dict(
        RANK=task,
        WORLD_SIZE=of_job('NTASKS'),
        LOCAL_RANK=of_job('LOCALID'),
        LOCAL_WORLD_SIZE=re.match(r'\d*', of_step('TASKS_PER_NODE'))[0],
        MASTER_ADDR=environ.get('MASTER_ADDR')
        or _first_host(of_step('NODELIST')),
        MASTER_PORT=environ.get('MASTER_PORT')
        or str(20000 + job % 20000))  # one per job


def start(processes, command):
    """Run a command in several processes of this machine; wait for them.

    Of several machines, `NNODES`, `NODE_RANK`, `MASTER_ADDR` and `PORT` in
    the environment say which this is and where the first is. One machine
    finds a free port itself. With `NNODES=1:2` torchrun's elastic launcher
    starts the processes again, on the machines that are left or have come.

    Args:
        processes (int): how many, here.
        command (list[str]): a Python script and its arguments.

    Raises:
        Refused: for more processes than GPUs, a port in use, several
            machines without MASTER_ADDR or that do not find each other, a
            variable that is no number, or restarts without `--resume`.
        SystemExit: with the status of the process that failed first.
    """
    if processes < 1:
        raise Refused(f'{processes} processes: start one or more')
    check_devices(processes)
    least, nodes = _range_of_nodes(os.environ.get('NNODES', '1'))
    node = _number('NODE_RANK', os.environ.get('NODE_RANK', '0'))
    if node >= nodes:
        raise Refused(f'NODE_RANK={node} with NNODES={nodes}: ranks count '
                      f'from 0 to {nodes - 1}')
    if nodes > 1 and 'MASTER_ADDR' not in os.environ:
        raise Refused(f'NNODES={nodes}: set MASTER_ADDR to the host of '
                      'NODE_RANK=0')
    address = os.environ.get('MASTER_ADDR', '127.0.0.1')
    port = _number('PORT', os.environ.get('PORT',
                                          '29500' if nodes > 1 else '0'))
    if node == 0:
        port = _free_port(port)
    if not torch.cuda.is_available():  # else every process takes all cores
        cores = system.available_cores()
        os.environ.setdefault('OMP_NUM_THREADS',
                              str(max(cores // processes, 1)))
    if least == nodes:
        meeting = dict(
            rdzv_backend='static',
            rdzv_configs=dict(rank=node, timeout=JOIN_SECONDS),
            max_restarts=0)
    else:
        _check_resumes(command)
        # PyTorch 2.14 would leave addresses of the last start in this store
        os.environ['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] = '1'
        if node:
            _wait_for(address, port)
        meeting = dict(
            rdzv_backend='c10d',
            rdzv_configs=dict(
                is_host=node == 0, join_timeout=JOIN_SECONDS, read_timeout=15),
            local_addr=system.address_towards(address),
            max_restarts=RESTARTS)
    config = pytorch.launch_config(
        min_nodes=least,
        max_nodes=nodes,
        nproc_per_node=processes,
        run_id='mmfd',  # one for all machines; else each draws its own
        rdzv_endpoint=f'{address}:{port}',
        **meeting)
    try:
        elastic_launch(config, sys.executable)('-u', *command)
    except (distributed.DistError, RendezvousError) as error:
        raise Refused(
            f'machine {node} of {nodes} has not found the others at '
            f'{address}:{port} ({type(error).__name__}: '
            f'{str(error).partition(os.linesep)[0]}): start '
            'tools/dist_train.sh on each, and check MASTER_ADDR, PORT, '
            'NNODES, the network between them and their clocks') from error
    except ChildFailedError as error:
        sys.exit(_status(error.failures))
    except SignalException as stop:
        sys.exit(128 + stop.sigval)


def _range_of_nodes(text):
    """How many machines are needed and how many may come, of `2` or `1:2`."""
    least, _, most = text.partition(':')
    least, most = (_number('NNODES', each) for each in (least, most or least))
    if not 1 <= least <= most:
        raise Refused(f'NNODES={text}: expected is a number from 1 on, or '
                      'LEAST:MOST')
    return least, most


def _check_resumes(command):
    """Refuse a run that would begin anew whenever it is restarted."""
    after = command[command.index('--resume') +
                    1:][:1] if ('--resume' in command) else ['no']
    if after and not after[0].startswith('-'):
        raise Refused(
            'with NNODES=LEAST:MOST a run is restarted where machines leave '
            'or come: add --resume without a file, which goes on from the '
            'last checkpoint of the work dir, or begins where there is none')


def _wait_for(address, port):
    """Wait for the first machine; one that never comes is found out later."""
    until = time.monotonic() + JOIN_SECONDS
    while time.monotonic() < until:
        try:
            return socket.create_connection((address, port), 5).close()
        except OSError:
            time.sleep(1)


def _number(name, text):
    """A variable of the environment as a number that is not negative."""
    if not text.isdecimal():
        raise Refused(f'{name}={text}: a whole number is expected')
    return int(text)


def _first_host(nodes):
    """The first host of a list such as `n[1-4]`, which SLURM can read."""
    try:
        return subprocess.run(['scontrol', 'show', 'hostnames', nodes],
                              capture_output=True,
                              text=True,
                              check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise Refused(
            f'scontrol cannot name the first host of {nodes} ({error}): set '
            'MASTER_ADDR to it, as in a container') from None


def _free_port(port):
    """The port if it is free; for 0, one that is."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', port))
        except OverflowError:
            raise Refused(f'PORT={port}: ports end at 65535') from None
        except PermissionError:
            raise Refused(f'PORT={port}: ports below 1024 are not for '
                          'users') from None
        except OSError:
            raise Refused(_in_use(port)) from None
        return probe.getsockname()[1]


def _in_use(port):
    return (f'port {port} is in use by another program: set PORT to a free '
            'one, or leave it out')


def _status(failures):
    """The exit status of the process that failed first.

    Or a message, where a signal gave it no time for its own.
    """
    # the launcher ends the others by SIGTERM
    rank, first = min(
        failures.items(),
        key=lambda f:
        (f[1].exitcode == -signal.SIGTERM, f[1].exitcode > 0, f[1].timestamp))
    if first.exitcode > 0:  # it has printed its message itself
        return first.exitcode
    why = ', as the kernel does where memory runs out' * (
        first.exitcode == -signal.SIGKILL)
    return (f'error: process {rank} (pid {first.pid}) was ended by '
            f'{first.signal_name()}{why}; so all are. --resume goes on from '
            'the last checkpoint')


def main(arguments):
    if len(arguments) < 2 or not arguments[0].isdecimal():
        print(__doc__.strip(), file=sys.stderr)
        sys.exit(2)
    logging.disable(logging.ERROR)  # the processes say what is wrong
    try:
        start(int(arguments[0]), arguments[1:])
    except KeyboardInterrupt:  # before there are processes to pass it on to
        sys.exit(128 + signal.SIGINT)
    except Refused as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main(sys.argv[1:])
