"""Hooks that make a run fail, or measure it; configs of tests name them."""
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import time
from pathlib import Path

from helpers.rights import drop_root_rights
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class FullDisk(Hook):
    """No file of more than 100 kB can be written during some epochs."""

    def __init__(self, epochs):
        self.epochs = epochs
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def before_train_epoch(self, runner):
        most = 100_000 if runner.epoch in self.epochs else -1
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, -1))


@HOOKS.register_module()
class FullDiskForLogs(Hook):
    """From an iteration on, the log cannot be longer than it is."""

    def __init__(self, iteration):
        self.iteration = iteration
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            [log] = Path(runner.work_dir).glob('*/*.log')
            resource.setrlimit(resource.RLIMIT_FSIZE,
                               (log.stat().st_size + 10, -1))


@HOOKS.register_module()
class NotFinite(Hook):
    """Make the loss NaN, or a gradient infinite, in some iterations."""

    def __init__(self, iterations, what):
        self.iterations, self.what = iterations, what

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 in self.iterations:
            self.std = runner.model.normalize.std.clone()
            if self.what == 'loss':
                runner.model.normalize.std.zero_()
            [weight, *_] = runner.model.neck.parameters()
            self.handle = weight.register_hook(
                lambda gradient: gradient * float('inf'))

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter + 1 in self.iterations:
            runner.model.normalize.std.copy_(self.std)
            self.handle.remove()


@HOOKS.register_module()
class SlowIteration(Hook):
    """One iteration takes a minute, or as many seconds as asked."""

    def __init__(self, iteration, seconds=60):
        self.iteration, self.seconds = iteration, seconds

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            runner.logger.info('slow iteration')
            time.sleep(self.seconds)


@HOOKS.register_module()
class SeenImages(Hook):
    """Note the images of each iteration in `seen.txt` of the run."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        names = [
            os.path.basename(sample.img_path)
            for sample in data_batch['data_samples']
        ]
        with open(f'{runner.work_dir}/seen.txt', 'a') as file:
            print(runner.iter + 1, *names, file=file)


@HOOKS.register_module()
class Accident(Hook):
    """Something happens to a run before its third iteration."""

    def __init__(self, what):
        self.happen = getattr(self, what)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == 3:
            self.happen(Path(runner.work_dir))

    def work_dir_removed(self, work_dir):
        shutil.rmtree(work_dir)

    def work_dir_locked(self, work_dir):
        drop_root_rights()
        for folder in work_dir, *work_dir.glob('*/vis_data'):
            folder.chmod(0o500)
            for file in folder.glob('*.json'):
                file.chmod(0o400)

    def worker_killed(self, work_dir):
        for worker in multiprocessing.active_children():
            worker.kill()


@HOOKS.register_module()
class Measure(Hook):
    """Log the memory and open files of a run and of its workers."""
    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if (runner.iter + 1) % 250:
            return
        children = Path(f'/proc/self/task/{os.getpid()}/children')
        workers = [measured(pid) for pid in children.read_text().split()
                   ] + [dict(memory=0, files=0)]
        line = dict(
            iteration=runner.iter + 1,
            main=measured('self'),
            worker={
                key: max(worker[key] for worker in workers)
                for key in ('memory', 'files')
            })
        with open(f'{runner.work_dir}/measured.json', 'a') as file:
            print(json.dumps(line), file=file)


def measured(pid):
    """Bytes of memory that no file backs, and how many open files."""
    rollup = Path(f'/proc/{pid}/smaps_rollup').read_text()
    sizes = re.findall(r'(?:Anonymous|Pss_Shmem): +(\d+) kB', rollup)
    return dict(
        memory=1024 * sum(map(int, sizes)),
        files=len(os.listdir(f'/proc/{pid}/fd')))
