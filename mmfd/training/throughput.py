"""How fast training goes, and what keeps it waiting for images."""
import os
import time
from collections import deque
from math import ceil

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

from mmfd.hosts import log, system
from mmfd.registry import HOOKS

WAITING = 0.2  # share of the time from which on it is worth a word


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log the speed of training and the time spent waiting for data.

    `img_per_s` are the images per second of all processes together,
    `data_wait` is the share of the time (0-1) in which this process waited
    for its next batch. Both are of the last iterations before the line of the
    log. It does not wait for the device. Once, after two intervals, it says
    how many workers a loader lacks that keeps training waiting.

    Args:
        interval (int): iterations that both are averaged over.
    """

    def __init__(self, interval=10):
        self.last = deque(maxlen=interval)  # images, seconds, of these waiting

    def before_train(self, runner):
        self.left = 2 * self.last.maxlen  # iterations: the first ones are slow

    def before_train_epoch(self, runner):
        self.done = time.perf_counter()

    def after_val_epoch(self, runner, metrics=None):
        self.done = time.perf_counter()  # an evaluation is no waiting for data

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.begun = time.perf_counter()

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        previous, self.done = self.done, time.perf_counter()
        self.last.append((len(data_batch['data_samples']),
                          self.done - previous, self.begun - previous))
        images, seconds, waited = map(sum, zip(*self.last))
        runner.message_hub.update_scalar('train/img_per_s',
                                         images * get_world_size() / seconds)
        runner.message_hub.update_scalar('train/data_wait', waited / seconds)
        self.left -= 1
        if self.left == 0 and is_main_process():
            advice = workers_lacking(runner.train_dataloader.num_workers,
                                     waited / seconds)
            if advice:
                log.warn(advice)


def workers_lacking(workers, waiting):
    """What a loader lacks that keeps training waiting, as a sentence.

    Args:
        workers (int): of the loader of this process; without any, the process
            loads its images itself.
        waiting (float): share of the time in which training waits, 0-1.

    Returns:
        str | None: None if it hardly waits.
    """
    if waiting <= WAITING:
        return None
    # they bring in the whole time what is used up in the rest of it
    needed = ceil((workers or waiting) / max(1 - waiting, 1e-3))
    processes = int(os.environ.get('LOCAL_WORLD_SIZE') or 1)
    here = f' in each of {processes} processes' * (processes > 1)
    cores, all_needed = system.available_cores(), needed * processes
    line = (f'{waiting:.0%} of the time goes into waiting for images: about '
            f'{needed} workers{here} would keep up, and '
            f'train_dataloader.num_workers is {workers}. ')
    if all_needed <= cores:
        return line + f'Raise it: there are {cores} cores'
    return line + (f'There are {cores} cores, {all_needed - cores} too few: '
                   'store the images smaller, or take fewer GPUs a machine')
