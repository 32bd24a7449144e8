"""SIGTERM and SIGUSR1 end a run in all processes after the same iteration."""
import signal
import sys
from datetime import timedelta
from functools import partial

import torch
from mmengine.dist import get_world_size
from torch import distributed

from mmfd.hosts import system


class StopSignals:
    """Catch SIGTERM and SIGUSR1 during training.

    Attributes:
        received (int): number of the last signal, 0 if none came.
        exit_at_once (bool): a signal ends the process when it comes, since
            nothing would be lost.
    """

    def __init__(self):
        self.received = 0
        self.exit_at_once = False

    def catch(self):
        """Replace the handlers of both signals."""
        self.previous = {
            number: signal.signal(number, self._receive)
            for number in system.stop_signals()
        }

    def release(self):
        """Put back the handlers that `catch` replaced."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _receive(self, number, frame):
        self.received = number
        if self.exit_at_once:
            sys.exit(128 + number)


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
        previous, self.pending = self.pending, (tensor,
                                                distributed.all_reduce(
                                                    tensor,
                                                    distributed.ReduceOp.MAX,
                                                    group=self.group,
                                                    async_op=True))
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
