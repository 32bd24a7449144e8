"""Signals end a run in all processes after the same iteration."""
import os
import shlex
import signal
import sys
import threading
import time
from datetime import timedelta
from functools import partial

import torch
from mmengine.dist import get_world_size, is_main_process
from torch import distributed

from mmfd.hosts import log, system

# Seconds within which a second Ctrl-C is taken for the first: a program that
# started the run may pass on what the terminal has sent to it, too
AT_ONCE = 1.
# Not caught where whoever started the run has it ignore them: a shell, `nohup`
LEFT_IGNORED = {'SIGINT', 'SIGHUP'}


class StopSignals:
    """Catch Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP during training.

    What comes after a Ctrl-C ends the process when it comes. Nothing is
    caught in a thread, which receives no signals, nor `LEFT_IGNORED` where
    they are ignored.

    Attributes:
        received (int): number of the first signal, 0 if none came.
        exit_at_once (bool): a signal ends the process when it comes, since
            nothing would be lost.
    """

    def __init__(self):
        self.received = 0
        self.exit_at_once = False
        self.previous = {}  # number of a signal -> handler from before

    def catch(self):
        """Replace the handlers of the signals."""
        if threading.current_thread() is not threading.main_thread():
            log.info(
                'this run is in a thread, which receives no signals: Ctrl-C '
                'and SIGTERM will not save a checkpoint before they end it')
            return
        for number in system.stop_signals():
            ignored = signal.getsignal(number) == signal.SIG_IGN
            if not (ignored and number.name in LEFT_IGNORED):
                self.previous[number] = signal.signal(number, self._receive)

    def release(self):
        """Put back the handlers that `catch` replaced."""
        while self.previous:
            signal.signal(*self.previous.popitem())

    def _receive(self, number, frame):
        now, is_first = time.monotonic(), not self.received
        if is_first:
            self.received, self.since = number, now
        again = self.received == signal.SIGINT and now - self.since > AT_ONCE
        if self.exit_at_once or again:
            _say('The run ends here; --resume continues it from its last '
                 'checkpoint.')
            sys.exit(128 + self.received)
        if is_first and number == signal.SIGINT:
            _say('Ctrl-C: a checkpoint is written after this iteration, then '
                 'the run ends. Once more ends it at once.')


def how_to_go_on():
    """How a run that was stopped goes on: the command, if it can be known."""
    program, *arguments = sys.argv
    is_script = program.endswith('train.py')
    if get_world_size() > 1 or not (is_script or program == 'mmfd train'):
        return '--resume continues it'
    arguments = [*_without_checkpoint(arguments), '--resume']
    python = 'python ' * is_script
    return f'it goes on with\n  {python}{program} {shlex.join(arguments)}'


def _without_checkpoint(arguments):
    """Without `--resume` and the older checkpoint that may come after it."""
    after = ''
    for argument in arguments:
        value = after == '--resume' and not argument.startswith('-')
        if not value and argument.partition('=')[0] != '--resume':
            yield argument
        after = argument


def _say(text):
    """Print a line from a handler, which may have interrupted a print."""
    if is_main_process():
        text = log.wrapped(text, sys.__stderr__)
        with system.console_may_close():
            os.write(sys.__stderr__.fileno(), f'\n{text}\n'.encode())


class RequestVote:
    """Let all processes know what any one of them requests.

    The answer of several processes is one iteration old, so that no process
    waits for another. They communicate through gloo, not through the device.

    Args:
        timeout (float): seconds after which a missing process is an error.
    """

    def __init__(self, timeout):
        self.group = self.pending = None
        if get_world_size() > 1:
            self.group = distributed.new_group(
                backend='gloo', timeout=timedelta(seconds=timeout))

    def exchange(self, *requests):
        """The maximum of each request over all processes, a list of int."""
        tensor = torch.tensor(requests, dtype=torch.int64)
        if self.group is None:
            return tensor.tolist()
        previous = self.pending
        self.pending = tensor, distributed.all_reduce(
            tensor, distributed.ReduceOp.MAX, self.group, async_op=True)
        if previous is None:
            return [0] * len(requests)
        previous[1].wait()
        return previous[0].tolist()

    def close(self):
        """Wait for the exchange that nobody has read."""
        if self.pending:
            self.pending[1].wait()


def shield_workers(dataloader):
    """Let a loader's workers outlive a signal to all processes of a job.

    The training process needs their batches until it has saved. A worker
    still obeys SIGTERM from the process that started it.
    """
    dataloader.worker_init_fn = partial(_shield_worker,
                                        dataloader.worker_init_fn)


def _shield_worker(init, worker_id):
    system.outlive_stop_signals()
    if init is not None:
        init(worker_id)
