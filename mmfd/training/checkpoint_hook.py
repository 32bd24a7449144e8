"""When a checkpoint is written, so that nothing is lost whatever happens."""
import copy
import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from torch import distributed

from mmfd.errors import Refused
from mmfd.files import written_whole
from mmfd.registry import HOOKS
from mmfd.training.loop import ResumableLoop, last_whole, position

SIGNALS = signal.SIGTERM, signal.SIGUSR1  # SLURM's, as the user likes
# What the host's hook remembers of its files
RESTORED = ('keep_ckpt_ids', 'last_ckpt', 'best_ckpt_path',
            'best_ckpt_path_dict')


@register_backend('mmfd.whole')
class WholeFiles(LocalBackend):
    """The host's files, whole or absent; what they replace goes last."""

    def __init__(self):
        self.outdated = []

    def put(self, obj, filepath):
        with written_whole(filepath) as beside:
            beside.write_bytes(obj)

    def remove(self, filepath):
        self.outdated.append(filepath)

    def remove_outdated(self):
        while self.outdated:
            Path(self.outdated.pop()).unlink(missing_ok=True)


@HOOKS.register_module()
class ResumableCheckpointHook(CheckpointHook):
    """The host's hook, for runs that may be killed at any moment.

    Files are written whole, and what they replace is removed after that. Amid
    an epoch, and before each evaluation, `interim_N.pth` is written, of which
    the last two are kept until the run ends. SIGTERM and SIGUSR1 end the run
    after the iteration that they come in: it writes an interim checkpoint and
    leaves with status 128 + the signal's number, 143 or 138.

    Args:
        minutes (float): between two interim checkpoints. 0 writes them after
            every iteration, None none but for a signal or an evaluation.
        on_failure (str): what to do if a file cannot be written, on a full
            disk for one: `stop` the run, or `warn` and go on without it.
        kwargs: as the host's.

    Raises:
        Refused: if a file cannot be written, with `stop`.
    """

    def __init__(self, minutes=15, on_failure='stop', **kwargs):
        if on_failure not in ('stop', 'warn'):
            raise Refused(f'on_failure={on_failure!r}: set it to '
                          "'stop' or 'warn'")
        super().__init__(backend_args=dict(backend='mmfd.whole'), **kwargs)
        self.minutes = minutes
        self.on_failure = on_failure
        self.signal = 0  # what came
        self.judging = False  # in an evaluation, with all before it saved
        self.wanted = self.asked = None  # by all processes; not yet answered
        self.written = None  # iteration of the last checkpoint
        self.tried = None  # and of the last interim one, written or not

    def before_train(self, runner):
        super().before_train(runner)
        self.file_backend.remove_outdated()
        self.interim = _interim(Path(self.out_dir))
        if is_main_process():
            for rest in Path(self.out_dir).glob('*.pth.*.part'):
                rest.unlink()  # of a run that was killed while it wrote
        self.group = _group(runner)
        self.since = time.monotonic()
        for loop in runner.train_loop, runner.val_loop:
            if loop is not None:
                loop.dataloader.worker_init_fn = partial(
                    _spare_worker, loop.dataloader.worker_init_fn)
        self.handlers = {
            number: signal.signal(number, self._note)
            for number in SIGNALS
        }

    def after_train(self, runner):
        super().after_train(runner)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if self.asked:
            self.asked[1].wait()
        if is_main_process() and self.written == runner.iter:
            for file in self.interim:
                file.unlink(missing_ok=True)

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        self.wanted = self._vote()
        counts = runner.optim_wrapper._accumulative_counts
        last = batch_idx + 1 == len(runner.train_dataloader)
        if not last and (runner.iter + 1) % counts == 0:
            self._if_wanted(runner, runner.epoch, runner.iter + 1)

    def after_train_epoch(self, runner):
        super().after_train_epoch(runner)
        loop, epoch = runner.train_loop, runner.epoch + 1
        judged = isinstance(loop, ResumableLoop) and loop.evaluates(epoch)
        self._if_wanted(runner, epoch, runner.iter, judged)

    def before_val_epoch(self, runner):
        self.judging = self.written == runner.iter

    def after_val_epoch(self, runner, metrics):
        with self._or_keep(runner):
            super().after_val_epoch(runner, metrics)
            self.file_backend.remove_outdated()
        self.judging = False

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['meta']['epoch_length'] = len(runner.train_dataloader)

    def after_load_checkpoint(self, runner, checkpoint):
        meta = checkpoint.get('meta', {})
        if runner.cfg.get('resume') and 'epoch_length' in meta:
            length = len(runner.train_dataloader)
            if length != meta['epoch_length']:
                runner.logger.warning(
                    f'an epoch had {meta["epoch_length"]} iterations and has '
                    f'{length} now: going on at the same share of it, but '
                    'not with the same images')
            meta['epoch'], meta['iter'] = position(
                meta['iter'], meta['epoch'], length, meta['epoch_length'],
                runner.optim_wrapper._accumulative_counts)

    def _if_wanted(self, runner, epoch, iteration, judged=False):
        """An interim checkpoint, and the end, if somebody asked for them."""
        number, due = self.wanted
        if self.minutes and self.tried == iteration - 1:
            due = 0  # asked for before that one was written
        if self.written != iteration and (number or due or judged):
            self._save_interim(runner, dict(epoch=epoch, iter=iteration))
        if number:
            barrier()  # the first process may still be writing
            runner.logger.info(
                f'{signal.Signals(number).name} ends this run after iteration '
                f'{iteration:,}; --resume goes on')
            sys.exit(128 + number)

    def _vote(self):
        """What any process asks for: (signal's number, whether to save).

        Among several it is what they asked for one iteration ago, so that
        none waits for another. They talk through gloo, not on the device.
        """
        due = self.minutes is not None and is_main_process() and (
            time.monotonic() - self.since >= 60 * self.minutes)
        wish = torch.tensor([self.signal, due], dtype=torch.int64)
        if self.group is None:
            return wish.tolist()
        asked, self.asked = self.asked, (wish,
                                         distributed.all_reduce(
                                             wish,
                                             distributed.ReduceOp.MAX,
                                             group=self.group,
                                             async_op=True))
        if asked is None:
            return 0, 0
        asked[1].wait()
        return asked[0].tolist()

    def _note(self, number, frame):
        self.signal = number
        if self.judging:
            sys.exit(128 + number)

    def _save_interim(self, runner, meta):
        self.tried = meta['iter']
        file = Path(self.out_dir, f'interim_{self.tried}.pth')
        with self._or_keep(runner):
            runner.save_checkpoint(
                self.out_dir,
                file.name,
                save_param_scheduler=runner.param_schedulers is not None,
                meta=meta,
                backend_args=self.backend_args)
            self._done(meta)
            if file in self.interim:  # of an iteration done again
                self.interim.remove(file)
            self.interim.append(file)
            while len(self.interim) > 2:
                outdated = self.interim.popleft()
                if is_main_process():
                    outdated.unlink(missing_ok=True)
        self.since = time.monotonic()

    def _save_checkpoint_with_step(self, runner, step, meta):
        with self._or_keep(runner):
            super()._save_checkpoint_with_step(runner, step, meta)
            self._done(meta)
            self.file_backend.remove_outdated()

    def _done(self, meta):
        self.written, self.since = meta['iter'], time.monotonic()

    @contextmanager
    def _or_keep(self, runner):
        """If a file cannot be written, all is as if it had not been tried."""
        own = {
            name: copy.copy(value)
            for name, value in vars(self).items() if name in RESTORED
        }
        told = dict(runner.message_hub.runtime_info)
        outdated = [*self.file_backend.outdated]
        try:
            yield
        except OSError as error:
            vars(self).update(own)
            runner.message_hub.runtime_info.clear()
            runner.message_hub.runtime_info.update(told)
            self.file_backend.outdated = outdated
            message = (f'no checkpoint could be written to {self.out_dir}: '
                       f'{error.strerror or error}; the last whole one is '
                       f'{last_whole(self.out_dir)}')
            if self.on_failure == 'stop':
                raise Refused(
                    f'{message}. Make room and go on with --resume, or set '
                    'default_hooks.checkpoint.on_failure=warn to train on '
                    'without') from error
            runner.logger.warning(message)


def _interim(folder):
    """Interim checkpoints there, the last one last."""
    files = folder.glob('interim_*.pth')
    return deque(sorted(files, key=lambda f: int(f.stem.partition('_')[2])))


def _group(runner):
    """Of all processes, beside the device's; None if there is one process."""
    if get_world_size() == 1:
        return None
    told = runner.cfg.env_cfg.get('dist_cfg', {})
    return distributed.new_group(
        backend='gloo', timeout=timedelta(seconds=told.get('timeout', 1800)))


def _spare_worker(init, worker_id):
    """A signal to all of a job's processes is for those that can save.

    SIGTERM from the process that this one works for is obeyed.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_wait_for_parent, daemon=True).start()
    if init is not None:
        init(worker_id)


def _wait_for_parent():
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
