"""Small hooks: what is logged of a run and noted in its checkpoints."""
import json
import os
from collections import Counter
from math import nan

import torch
from mmengine.dist import all_gather_object, all_reduce_dict, is_main_process
from mmengine.hooks import Hook, LoggerHook, RuntimeInfoHook

from mmfd.errors import Refused
from mmfd.files import make_folder, os_errors_refused
from mmfd.hosts import openmmlab
from mmfd.hosts.lookup import check_methods
from mmfd.networks.library_network import facts_of
from mmfd.registry import HOOKS, branches_of
from mmfd.training.optim import AmpOptimWrapper
from mmfd.weights import provenance

SKIPPED_IMAGES = 'skipped_images.txt'  # in the work dir


@HOOKS.register_module()
class NonBlockingRuntimeInfoHook(RuntimeInfoHook):
    """The host's hook, without waiting for the device in every iteration.

    Losses and the norm of the gradients stay on the device until a line of
    the log or a checkpoint needs them; then all are read at once.
    """

    def before_train(self, runner):
        super().before_train(runner)
        self.unread = []  # name -> scalar, of each iteration
        self.intervals = [
            hook.interval for hook in runner.hooks
            if isinstance(hook, LoggerHook)
        ]

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        scalars, wrapper = {}, runner.optim_wrapper
        if isinstance(wrapper, AmpOptimWrapper) and wrapper.norm is not None:
            scalars[wrapper.grad_name] = wrapper.take_norm()
        scalars.update(outputs)
        self.unread.append({k: v.detach() for k, v in scalars.items()})
        if self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
                self.every_n_inner_iters(batch_idx, n)
                for n in self.intervals):
            self._read(runner)

    def after_val_epoch(self, runner, metrics=None):
        """What this evaluation could not measure is NaN.

        The host's log would repeat the number of an earlier one.
        """
        curves = runner.message_hub.log_scalars
        known = {
            name.removeprefix('val/'): nan
            for name in curves if name.startswith('val/')
        }
        for timed in 'time', 'data_time':
            known.pop(timed, None)
        super().after_val_epoch(runner, {**known, **(metrics or {})})

    def before_save_checkpoint(self, runner, checkpoint):
        if self.unread:
            self._read(runner)
            checkpoint['message_hub'] = runner.message_hub.state_dict()

    def _read(self, runner):
        unread, self.unread = self.unread, []
        scalars = [pair for each in unread for pair in each.items()]
        values = torch.stack([value for _, value in scalars])
        for (name, _), value in zip(scalars, values.tolist()):
            runner.message_hub.update_scalar(f'train/{name}', value)


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Log the mean loss of all processes, not that of the first alone."""
    priority = 'HIGHEST'  # before the host reads the loss

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        all_reduce_dict(outputs, op='mean')


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Count the images that could not be read, and list them in a file.

    Each process logs its own count as `skipped`. After every epoch the images
    of all processes are added, with reasons, to `skipped_images.txt` in the
    work dir; the log counts them by reason, and once more at the end. It also
    counts how often object stores were asked again in an epoch.

    Args:
        limit (float): share of the training images (0-1) that may be
            unreadable.

    Raises:
        Refused: if more are unreadable: that is a mistake in the folder.
    """

    def __init__(self, limit=0.1):
        check_methods(Hook, '_after_iter', '_after_epoch')
        self.limit = limit
        self.reasons = dict(train={}, val={}, test={})  # path -> reason
        self.reported = 0  # how many the log has counted
        self.retried = Counter()  # reason -> times, in this epoch

    def _after_iter(self, runner, batch_idx, data_batch, outputs, mode):
        for sample in data_batch['data_samples']:
            self.reasons[mode].update(sample.get('skipped', ()))
            self.retried.update(sample.get('retried', {}))
        if mode == 'train':
            skipped = self.reasons['train']
            runner.message_hub.update_scalar('train/skipped', len(skipped))
            self._check(runner, skipped)

    def _after_epoch(self, runner, mode):
        of_split = {split: {} for split in self.reasons}
        retried = Counter()
        of_all = all_gather_object((self.reasons, self.retried))
        for reasons, times in of_all:  # of each process
            retried.update(times)
            for split, skipped in reasons.items():
                of_split[split].update(skipped)
        self.retried.clear()
        _say_retried(runner, retried)
        skipped = dict(pair for part in of_split.values()
                       for pair in part.items())
        if len(skipped) == self.reported:
            return
        self.reported = len(skipped)
        if is_main_process():
            counts = Counter(skipped.values()).most_common(20)
            runner.logger.warning(
                f'{len(skipped):,} images could not be read and were '
                'skipped: ' + ', '.join(f'{count:,} x {reason}'
                                        for reason, count in counts) +
                f'; all are listed in {self._write(runner, skipped)}')
        if mode == 'train':
            self._check(runner, of_split['train'])

    def after_train(self, runner):
        self.reported = 0  # report all once more
        self._after_epoch(runner, 'val')

    def _check(self, runner, skipped):
        images = len(runner.train_dataloader.dataset)
        if len(skipped) > self.limit * images:
            path, reason = next(iter(skipped.items()))
            raise Refused(
                f'{len(skipped):,} of {images:,} images could not be read, '
                f'more than the share of {self.limit:g} that '
                f'mmfd.SkippedImagesHook(limit=...) allows: {path}: {reason}; '
                f'all are listed in {self._write(runner, skipped)}')

    def _write(self, runner, skipped):
        """Add images to the file, which an earlier run may have begun."""
        make_folder(runner.work_dir)
        report = os.path.join(runner.work_dir, SKIPPED_IMAGES)
        lines = {
            '\t'.join((_on_a_line(path), _on_a_line(reason))) + '\n'
            for path, reason in skipped.items()
        }
        with os_errors_refused(f'{report} cannot be written',
                               'make room, or set another --work-dir'):
            with open(report, 'a+', encoding='utf-8') as file:
                file.seek(0)
                file.writelines(sorted(lines - {*file}))
        return report


def _say_retried(runner, retried):
    """Say how often object stores were asked again, reason -> times."""
    if retried and is_main_process():
        runner.logger.warning(
            f'object stores were asked again {retried.total():,} times in '
            'this epoch: ' +
            ', '.join(f'{times:,} x {reason}'
                      for reason, times in retried.most_common()))


def _on_a_line(text):
    escaped = text.replace('\n', '\\n').encode(errors='backslashreplace')
    return escaped.decode()


@HOOKS.register_module()
class ProvenanceHook(Hook):
    """Write into every checkpoint how it was made.

    That is the config of the model, which `--resume` compares and
    tools/export.py builds; the name of the config file; the files of the
    teacher and of the initial weights; the facts of networks that were named
    (`teacher.facts`, `facts`); and the fingerprint of the teacher, a hash of
    its weights and statistics.
    """

    def __init__(self):
        self.origins = {}

    def after_load_checkpoint(self, runner, checkpoint):
        if runner.cfg.get('resume'):
            self.origins = provenance.of_meta(checkpoint.get('meta', {}))

    def before_train(self, runner):
        if is_main_process() and not self.origins:
            self.origins = provenance.of_run(runner.cfg)
            for part, facts in facts_of(openmmlab.unwrapped(
                    runner.model)).items():
                self.origins.update(provenance.of_facts(part, facts))

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['meta'].update(
            self.origins, model=json.dumps(runner.cfg.model, default=str))
        model = openmmlab.unwrapped(runner.model)
        for name in branches_of(runner.cfg.model):
            checkpoint['meta'][provenance.fingerprint_key(name)] = (
                model.branches[name].teacher.fingerprint)
