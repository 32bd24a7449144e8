"""When checkpoints are written, so that a run can be stopped at any moment."""
import copy
import os
import re
import sys
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from signal import Signals

from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook

from mmfd.errors import Refused
from mmfd.files import written_whole
from mmfd.hosts import log, openmmlab
from mmfd.hosts.lookup import check_methods
from mmfd.registry import HOOKS
from mmfd.training import (checkpoint_notes, early_stopping, optimizer_schema,
                           run_folder)
from mmfd.training.last_checkpoint import (WRITTEN, find_checkpoints,
                                           last_valid_checkpoint,
                                           resume_position)
from mmfd.training.loop import ResumableLoop
from mmfd.training.stop_signals import (RequestVote, StopSignals, how_to_go_on,
                                        shield_workers)
from mmfd.weights import checkpoints

# A file that is being written under the name of a checkpoint
PART = re.compile(r'(epoch|iter|interim|best)_.*\.pth\.[0-9a-f]{8}\.part')


@register_backend('mmfd.atomic')
class AtomicBackend(LocalBackend):
    """Write files completely or not at all; remove old ones afterwards.

    The host's hook removes an old checkpoint, which may be a folder to it,
    before it writes the new one. Here the path is only noted in `outdated`.
    """

    def __init__(self):
        self.outdated = []

    def put(self, obj, filepath):
        with written_whole(filepath) as temporary:
            temporary.write_bytes(obj)

    def remove(self, filepath):
        self.outdated.append(filepath)

    rmtree = remove


@HOOKS.register_module()
class ResumableCheckpointHook(CheckpointHook):
    """The host's hook, for runs that may be killed at any moment.

    A checkpoint is written completely or not at all, and the one it replaces
    is removed only afterwards. Within an epoch, and before each evaluation,
    `interim_N.pth` is written after iteration N; the last two of these are
    kept until the run ends. Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP end the run
    after the current iteration: it writes an interim checkpoint and exits with
    status 128 + the number of the signal, which is 130, 143, 138 or 129.

    Only files that this run has written to its folder are ever removed, and
    no path is taken from a checkpoint. A checkpoint says of which run it is
    (`mmfd/training/run_folder.py`), of which images, which hooks have a state
    in it, and how long the host's EarlyStoppingHook has waited.

    Args:
        minutes (float): between two interim checkpoints. 0 writes one after
            every iteration; None only before an evaluation or at a signal.
        on_failure (str): what to do when a checkpoint cannot be written, for
            example on a full disk: `stop` the run, or `warn` and continue.
        kwargs: as in the host's hook.

    Raises:
        Refused: if a checkpoint cannot be written, with `stop`; for a
            `filename_tmpl` by which `--resume` would not find a checkpoint,
            and for a `save_best` that no evaluation measures.
    """

    def __init__(self, minutes=15, on_failure='stop', **kwargs):
        if on_failure not in ('stop', 'warn'):
            raise Refused(f'on_failure={on_failure!r}: set it to '
                          "'stop' or 'warn'")
        check_methods(CheckpointHook, '_save_checkpoint_with_step')
        super().__init__(backend_args=dict(backend='mmfd.atomic'), **kwargs)
        names = {self.filename_tmpl.format(step) for step in (1, 22)}
        if len(names) < 2 or not all(map(WRITTEN.fullmatch, names)):
            raise Refused(
                f'filename_tmpl={self.filename_tmpl!r}: --resume finds '
                'checkpoints that are called epoch_{}.pth or iter_{}.pth; '
                'leave filename_tmpl out')
        self.minutes = minutes
        self.on_failure = on_failure
        self.signals = StopSignals()
        self.stop = self.due = 0  # what the processes agreed on: the number
        # of a signal to end the run, and whether to write a checkpoint
        self.saved = None  # iteration of the last checkpoint
        self.attempted = None  # and of the last interim one, written or not
        self.resumed = None, {}  # path and `meta` of a checkpoint

    def before_train(self, runner):
        self.folder = run_folder.folder_of(runner.work_dir, self.out_dir)
        runs = [
            is_main_process() and run_folder.begin(self.folder, *self.resumed)
        ]
        broadcast_object_list(runs)
        [self.run] = runs
        self._forget_files_of_others(runner.message_hub.runtime_info)
        super().before_train(runner)
        self._check_interval(runner)
        self._warn_of_what_is_left_out(runner)
        if self.run.starts == 1 and is_main_process():
            self._warn_of_earlier_run()
        if is_main_process():  # and what it was killed before it removed
            self.file_backend.outdated += [
                self.folder / Path(name).name
                for name in self.resumed[1].get('outdated', ())
            ]
        self.remove_outdated()
        self.interim = deque(
            filter(self._owns, _interim_checkpoints(self.folder)))
        if is_main_process():  # of a run that was killed while it wrote
            for file in self.folder.glob('*.part'):
                if PART.fullmatch(file.name):
                    file.unlink()
        settings = (runner.cfg.get('env_cfg') or {}).get('dist_cfg') or {}
        self.requests = RequestVote(settings.get('timeout', 1800))
        self.saved_at = time.monotonic()
        for loop in runner.train_loop, runner.val_loop:
            if loop is not None:
                shield_workers(loop.dataloader)
        self.signals.catch()

    def _check_interval(self, runner):
        """Refuse checkpoints within an update, whose gradients they lack."""
        accumulation = openmmlab.accumulative_counts(runner.optim_wrapper)
        length = len(runner.train_dataloader)
        name, between = (('an epoch', length) if self.by_epoch else
                         ('checkpoint.interval', self.interval))
        if between > 0 and between % accumulation:
            raise Refused(
                f'{name} is {between} iterations, and an update accumulates '
                f'{accumulation}, so checkpoints would be written within '
                'updates and their gradients lost: set '
                "train_cfg.type='mmfd.ResumableLoop' and train_dataloader."
                "sampler.type='mmfd.ResumableSampler', or a multiple")

    def _warn_of_what_is_left_out(self, runner):
        """Say which checkpoints no run can go on from: those of epochs.

        Interim ones hold all.
        """
        kept = dict(save_optimizer=self.save_optimizer)
        if runner.param_schedulers:
            kept.update(save_param_scheduler=self.save_param_scheduler)
        for name in (name for name, value in kept.items() if not value):
            log.warn(
                f'default_hooks.checkpoint.{name}=False: no run can go on '
                f'from {self.filename_tmpl.format("N")}, only from interim_N'
                '.pth, which are removed when it ends')

    def _warn_of_earlier_run(self):
        files = [
            file for file in find_checkpoints(self.folder)
            if not self._owns(file)
        ]
        if files:
            log.warn(f'{self.folder} holds {len(files)} checkpoints of an '
                     'earlier run, and this one writes over those of the same '
                     'name: name another --work-dir to keep them, or go on '
                     f'from one with --resume {files[-1]}')

    def after_train(self, runner):
        super().after_train(runner)
        self.after_loop(runner)
        self.requests.close()
        if is_main_process() and self.saved == runner.iter:
            for file in self.interim:
                file.unlink(missing_ok=True)

    def after_loop(self, runner):
        """Called by `ResumableLoop`, also when a run ends by an error."""
        self.signals.release()

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        overdue = self.minutes is not None and is_main_process() and (
            time.monotonic() - self.saved_at >= 60 * self.minutes)
        self.stop, self.due = self.requests.exchange(self.signals.received,
                                                     overdue)
        accumulation = openmmlab.accumulative_counts(runner.optim_wrapper)
        last = batch_idx + 1 == len(runner.train_dataloader)
        if not last and (runner.iter + 1) % accumulation == 0:
            self._save_or_stop(runner, runner.epoch, runner.iter + 1)

    def after_train_epoch(self, runner):
        super().after_train_epoch(runner)
        loop, epoch = runner.train_loop, runner.epoch + 1
        evaluates = (
            isinstance(loop, ResumableLoop) and loop.evaluates_after(epoch))
        self._save_or_stop(runner, epoch, runner.iter, evaluates)

    def before_val_epoch(self, runner):
        self.signals.exit_at_once = self.saved == runner.iter

    def after_val_epoch(self, runner, metrics):
        best = self.key_indicators if self.save_best and metrics else ()
        for key in {*best} - {'auto', *metrics}:
            raise Refused(
                f'default_hooks.checkpoint.save_best={key!r}: the evaluation '
                f'measured {", ".join(sorted(metrics))}; name one of them')
        early_stopping.check(runner.hooks, metrics)
        with self._undone_on_failure(runner):
            super().after_val_epoch(runner, metrics)
            self.remove_outdated()
        self.signals.exit_at_once = False

    def before_save_checkpoint(self, runner, checkpoint):
        # it writes every two minutes, and a resumed run begins here
        tensorboard = runner.visualizer.get_backend('TensorboardVisBackend')
        if tensorboard is not None:
            tensorboard.experiment.flush()
        optimizer_schema.leave_out_functions(
            checkpoint.get('param_schedulers', []))
        checkpoint['meta'].update(
            checkpoint_notes.take(runner, self.run),
            outdated=[Path(file).name for file in self.file_backend.outdated])

    def after_load_checkpoint(self, runner, checkpoint):
        if not runner.cfg.get('resume'):
            return
        meta = checkpoint['meta']
        self.resumed = runner.cfg.get('load_from'), meta
        early_stopping.go_on(runner.hooks, meta.get('early_stopping', {}))
        checkpoint_notes.warn_of_changes(runner, meta)
        if length := checkpoint_notes.epoch_length(runner):
            meta['epoch'], meta['iter'] = resume_position(
                meta['iter'], meta['epoch'], length,
                meta.get('epoch_length', length),
                openmmlab.accumulative_counts(runner.optim_wrapper))

    def _save_or_stop(self, runner, epoch, iteration, evaluates=False):
        """Write an interim checkpoint and end the run, if either is due."""
        due = self.due
        if self.minutes and self.attempted == iteration - 1:
            due = 0  # requested before that one was written
        if self.saved != iteration and (self.stop or due or evaluates):
            self._save_interim(runner, dict(epoch=epoch, iter=iteration))
        if self.stop:
            barrier()  # the first process may still be writing
            log.info(
                f'{Signals(self.stop).name} ends this run after iteration '
                f'{iteration:,}; {how_to_go_on()}')
            sys.exit(128 + self.stop)

    def _save_interim(self, runner, meta):
        self.attempted = meta['iter']
        file = self.folder / f'interim_{self.attempted}.pth'
        with self._undone_on_failure(runner):
            runner.save_checkpoint(
                self.out_dir,
                file.name,
                save_param_scheduler=runner.param_schedulers is not None,
                meta=meta,
                backend_args=self.backend_args)
            self._note_saved(meta)
            if file in self.interim:  # an iteration that was repeated
                self.interim.remove(file)
            self.interim.append(file)
            while len(self.interim) > 2:
                outdated = self.interim.popleft()
                if is_main_process():
                    outdated.unlink(missing_ok=True)
        self.saved_at = time.monotonic()

    def _save_checkpoint_with_step(self, runner, step, meta):
        """The host's, which writes the checkpoint of an epoch."""
        with self._undone_on_failure(runner):
            if is_main_process():
                note = Path(runner.work_dir, 'last_checkpoint')
                if note.is_symlink():  # the host would write where it leads
                    note.unlink()
            super()._save_checkpoint_with_step(runner, step, meta)
            self._note_saved(meta)
            self.remove_outdated()

    def _forget_files_of_others(self, info):
        """Of the files that a checkpoint names, keep those of this run.

        Args:
            info (dict): what the host has read from the checkpoint.
        """
        for key in [*info]:
            if key.startswith('best_ckpt'):
                file = self.folder / Path(info[key] or '').name
                if file.name.startswith('best_') and self._owns(file):
                    info[key] = str(file)
                else:
                    del info[key]
        info.pop('last_ckpt', None)  # the host writes it, and never reads it
        if 'keep_ckpt_ids' in info:
            info['keep_ckpt_ids'] = [
                step for step in info['keep_ckpt_ids']
                if self._owns(self.folder / self.filename_tmpl.format(step))
            ]

    def _owns(self, file):
        """Whether this run has written a file to its folder."""
        plain = os.path.isfile(file) and not os.path.islink(file)
        if file.parent != self.folder or not plain:
            return False
        try:
            return self.run.owns(checkpoints.meta(file))
        except Refused:
            return False

    def remove_outdated(self):
        """Remove what the host would have removed, if it is this run's."""
        outdated = self.file_backend.outdated
        while outdated:
            file = Path(outdated.pop())
            if self._owns(file):
                file.unlink()

    def _note_saved(self, meta):
        self.saved, self.saved_at = meta['iter'], time.monotonic()

    @contextmanager
    def _undone_on_failure(self, runner):
        """If writing fails, restore the state from before, then stop or warn.

        Otherwise the hook would later remove or name files that are not
        there.
        """
        state = {
            name: copy.copy(value)
            for name, value in openmmlab.remembered_files(self).items()
        }
        runtime_info = runner.message_hub.runtime_info
        old_info = dict(runtime_info)
        outdated = [*self.file_backend.outdated]
        try:
            yield
        except OSError as error:
            vars(self).update(state)
            runtime_info.clear()
            runtime_info.update(old_info)
            self.file_backend.outdated = outdated
            message = (f'no checkpoint could be written to {self.out_dir}: '
                       f'{error.strerror or error}; the last valid one is '
                       f'{last_valid_checkpoint(self.folder)}')
            if self.on_failure == 'stop':
                raise Refused(
                    f'{message}. Free some space and continue with --resume, '
                    'or set default_hooks.checkpoint.on_failure=warn to train '
                    'on without checkpoints') from error
            runner.logger.warning(message)


def _interim_checkpoints(folder):
    """The interim checkpoints in a folder, the oldest first."""
    numbered = {
        int(number): file
        for file in folder.glob('interim_*.pth')
        if (number := file.stem.removeprefix('interim_')).isdecimal()
    }
    return [file for _, file in sorted(numbered.items())]
