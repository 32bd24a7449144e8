"""What happens around the step."""
import json
import os
import time
from collections import Counter

import torch
from mmengine.dist import (all_gather_object, all_reduce_dict, get_world_size,
                           is_main_process)
from mmengine.hooks import Hook, LoggerHook, RuntimeInfoHook
from mmengine.model import is_model_wrapper

from mmfd.errors import Refused
from mmfd.registry import HOOKS
from mmfd.weights import provenance


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log images per second of all processes together, and the wait for data.

    `img_per_s` and `data_wait`, the share of the time that this process
    waited for its next batch, are averaged since the line before. Waits for
    nothing on the device.
    """

    def __init__(self, interval=10):
        self.interval = interval

    def before_train_epoch(self, runner):
        self._start()

    def after_val_epoch(self, runner, metrics=None):
        self._start()  # an evaluation amid iterations is no wait for data

    def _start(self):
        self.since = self.done = time.perf_counter()
        self.iterations, self.waited = 0, 0.

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.waited += time.perf_counter() - self.done

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        self.done = time.perf_counter()
        self.iterations += 1
        if self.iterations % self.interval:
            return
        batch = runner.train_dataloader.batch_sampler.batch_size
        images = self.iterations * batch * get_world_size()
        seconds = self.done - self.since
        runner.message_hub.update_scalar('train/img_per_s', images / seconds)
        runner.message_hub.update_scalar('train/data_wait',
                                         self.waited / seconds)
        self._start()


@HOOKS.register_module()
class NonBlockingRuntimeInfoHook(RuntimeInfoHook):
    """As the host's, without waiting for the device in every iteration.

    Losses and the norm of the gradients stay where they are until a line of
    the log or a checkpoint needs them; then all are read at once.
    """

    def before_train(self, runner):
        super().before_train(runner)
        self.unread = []  # name -> scalar, of each iteration
        self.intervals = [
            hook.interval for hook in runner.hooks
            if isinstance(hook, LoggerHook)
        ]

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        scalars, wrapper = {}, runner.optim_wrapper
        if getattr(wrapper, 'norm', None) is not None:
            scalars[wrapper.grad_name] = wrapper.taken_norm()
        scalars.update(outputs)
        self.unread.append({k: v.detach() for k, v in scalars.items()})
        if self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
                self.every_n_inner_iters(batch_idx, n)
                for n in self.intervals):
            self._read(runner)

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
    """Let the log show the loss of all processes, not of the first alone."""
    priority = 'HIGHEST'  # before the host logs the loss

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        all_reduce_dict(outputs, op='mean')


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Count the images that could not be read, and name them in a file.

    The count of this process is logged as `skipped`; all names, with reasons,
    are added to `skipped_images.txt` in the work dir after every epoch, and
    counted by reason in the log, there and at the end.

    Args:
        limit (float): share of the training images that may be broken. More
            end the run, since a folder in such a state is a mistake.
    """

    def __init__(self, limit=0.1):
        self.limit = limit
        self.reasons = dict(train={}, val={}, test={})  # path -> reason
        self.told = 0

    def _after_iter(self, runner, batch_idx, data_batch, outputs, mode):
        for sample in data_batch['data_samples']:
            self.reasons[mode].update(sample.get('skipped', ()))
        if mode == 'train':
            broken = self.reasons['train']
            runner.message_hub.update_scalar('train/skipped', len(broken))
            self._check(runner, broken)

    def _after_epoch(self, runner, mode):
        everywhere = {split: {} for split in self.reasons}
        for reasons in all_gather_object(self.reasons):
            for split, found in reasons.items():
                everywhere[split].update(found)
        found = dict(pair for part in everywhere.values()
                     for pair in part.items())
        if len(found) == self.told:
            return
        self.told = len(found)
        if is_main_process():
            kinds = Counter(found.values()).most_common(20)
            runner.logger.warning(
                f'{len(found):,} images could not be read and were skipped: ' +
                ', '.join(f'{count:,} x {reason}' for reason, count in kinds) +
                f'; all are in {self._write(runner, found)}')
        if mode == 'train':
            self._check(runner, everywhere['train'])

    def after_train(self, runner):
        self.told = 0  # all once more
        self._after_epoch(runner, 'val')

    def _check(self, runner, broken):
        images = len(runner.train_dataloader.dataset)
        if len(broken) > self.limit * images:
            path, reason = next(iter(broken.items()))
            raise Refused(
                f'{len(broken):,} of {images:,} images could not be read, '
                f'more than the share of {self.limit:g} that '
                f'mmfd.SkippedImagesHook(limit=...) allows: {path}: {reason}; '
                f'all are in {self._write(runner, broken)}')

    def _write(self, runner, reasons):
        """Add to the file: a resumed run or a test has seen less than it."""
        os.makedirs(runner.work_dir, exist_ok=True)
        report = os.path.join(runner.work_dir, 'skipped_images.txt')
        lines = {
            '\t'.join((_on_a_line(path), _on_a_line(why))) + '\n'
            for path, why in reasons.items()
        }
        with open(report, 'a+', encoding='utf-8') as file:
            file.seek(0)
            file.writelines(sorted(lines - {*file}))
        return report


def _on_a_line(text):
    escaped = text.replace('\n', '\\n').encode(errors='backslashreplace')
    return escaped.decode()


@HOOKS.register_module()
class ProvenanceHook(Hook):
    """Write into every checkpoint what made it.

    The model's config, by which `--resume` knows its run and tools/export.py
    its network; the recipe, the files of teacher and start, and the teacher's
    fingerprint, which is of its weights and statistics.
    """

    def __init__(self):
        self.told = {}

    def after_load_checkpoint(self, runner, checkpoint):
        if runner.cfg.get('resume'):
            self.told = provenance.of_meta(checkpoint.get('meta', {}))

    def before_train(self, runner):
        if is_main_process() and not self.told:
            self.told = provenance.of_run(runner.cfg)

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['meta'].update(
            self.told, model=json.dumps(runner.cfg.model, default=str))
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        if 'teacher' in runner.cfg.model:
            checkpoint['meta'][provenance.FINGERPRINT] = (
                model.teacher.fingerprint)
