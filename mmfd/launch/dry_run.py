"""Run ten iterations and report what the whole run will need."""
import shutil
import time
from datetime import timedelta
from pathlib import Path
from statistics import mean, median

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

from mmfd.data.image_folder import ImageFolder
from mmfd.hosts import openmmlab, system
from mmfd.launch import summary
from mmfd.planning.plan import checkpoint_bytes
from mmfd.planning.quantities import readable_bytes
from mmfd.registry import HOOKS, branches_of, place_of
from mmfd.training.loop import StopTraining
from mmfd.training.throughput import workers_lacking

DARK = 64  # of 255: the brightest pixel of an image that is nearly black
NO_CHECKPOINT = 'has no checkpoint to go on from: --resume begins a new run'


@HOOKS.register_module()
class DryRunHook(Hook):
    """Stop after a few iterations; print time, memory and what looks wrong.

    Args:
        work_dir (str): where the real run will write.
        iterations (int): how many to run.
        anew (bool): `--resume` was given, and there is no checkpoint.

    Raises:
        StopTraining: after the report.
    """
    priority = 'LOWEST'  # after all others have logged and counted

    def __init__(self, work_dir, iterations=10, anew=False):
        self.work_dir = work_dir
        self.iterations = iterations
        self.anew = anew
        self.start = None  # seconds: when loading began
        self.times = []  # seconds: when iterations began, and each ended
        self.waits = []  # seconds between two iterations: for data
        self.first = None  # number of the first iteration
        self.losses, self.sides = [], []  # sides: pixels, the short one
        self.skipped = {}  # path of an image -> why it could not be read
        self.dark = []  # paths of images that are nearly black

    def before_train_epoch(self, runner):
        self.start = self.start or time.perf_counter()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        now = time.perf_counter()
        if not self.times:
            self.times, self.first = [now], runner.iter
        self.waits.append(now - self.times[-1])

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.times.append(time.perf_counter())
        self.losses.append(outputs['loss'].item())
        self.sides += [min(s.ori_shape) for s in data_batch['data_samples']]
        self._note_skipped(data_batch)
        self._note_dark(data_batch)
        if len(self.losses) == self.iterations:
            self._finish(runner)

    def after_train(self, runner):  # a run may be shorter
        self._finish(runner)

    def _finish(self, runner):
        if runner.val_loop is not None:  # its mistakes would show epochs later
            runner.model.eval()
            batch = next(iter(runner.val_dataloader))
            self._note_skipped(batch)
            with torch.no_grad():
                runner.model.val_step(batch)
        lines = [*self.report(runner)]  # by every process: some hold shards
        if is_main_process():
            print('\n'.join(lines), flush=True)
        raise StopTraining

    def _note_skipped(self, batch):
        for sample in batch['data_samples']:
            self.skipped.update(sample.get('skipped', ()))

    def _note_dark(self, batch):
        for image, sample in zip(batch['inputs'], batch['data_samples']):
            if image.dtype == torch.uint8 and image.max() < DARK:
                self.dark.append(sample.get('img_path', 'one in memory'))

    def report(self, runner):
        """Lines of text: quantities, then what looks wrong."""
        run = _Forecast(runner, self)
        yield f'\n{len(self.losses)} iterations of {runner.max_iters:,} done\n'
        for name, text in run.quantities():
            yield f'  {name:12}{text}'
        warnings = [*run.warnings()]
        yield '\nThis looks wrong:' if warnings else '\nNothing looks wrong.'
        yield from (f'  - {line}' for line in warnings)


class _Forecast:
    """What a few iterations show of the whole run.

    Args:
        runner (Runner): of the dry run.
        hook (DryRunHook): with what it has measured.
    """

    def __init__(self, runner, hook):
        self.runner = runner
        self.hook = hook
        self.now = hook.first + len(hook.losses)
        self.model = openmmlab.unwrapped(runner.model)
        self.loader = runner.train_dataloader
        self.per_process = self.loader.batch_sampler.batch_size  # images
        self.accumulated = openmmlab.accumulative_counts(runner.optim_wrapper)
        self.batch = self.per_process * get_world_size() * self.accumulated
        steps = [b - a for a, b in zip(hook.times, hook.times[1:])]
        steady = slice(2 if len(steps) > 2 else 0, None)  # after warming up
        wait, self.step = mean(hook.waits[steady]), mean(steps[steady])
        busy, workers = self.step - wait, self.loader.num_workers
        if workers >= len(steps):  # all these batches came at once
            self.step = max(self.step, (hook.times[0] - hook.start) / workers)
        self.wait = 1 - busy / self.step  # share of the time

    def quantities(self):
        """(name, text) of each quantity."""
        runner, groups = self.runner, self.runner.optim_wrapper.param_groups
        yield 'device', summary.device()
        yield 'images', (
            f'{len(self.loader.dataset):,}, short side '
            f'{median(self.hook.sides):g} pixels; {self._held_out()}')
        for source in self._sources():
            yield '', source
        yield 'batch', (f'{self.per_process} x {get_world_size()} processes x '
                        f'{self.accumulated} accumulated = {self.batch:,} '
                        'images an update')
        yield 'lr', (f'{max(g["lr"] for g in groups):.3g} now, in iteration '
                     f'{self.now:,}')
        losses = self.hook.losses
        yield 'loss', f'{losses[0]:.4g} -> {losses[-1]:.4g}'
        seen = len(self.hook.sides) / len(losses)  # a batch may be incomplete
        images = seen * get_world_size() / self.step
        yield 'speed', (f'{self.step:.3g} s an iteration, {images:.3g} img/s, '
                        f'{self.wait:.0%} of the time waiting for data')
        left = self.step * (runner.max_iters - self.now)
        yield 'eta', (f'{timedelta(seconds=round(left))} for the whole run, '
                      'evaluation not counted')
        memory = self._memory()
        if memory:
            used, total = map(readable_bytes, memory)
            yield 'memory', f'peak {used} of {total}'
        needed, free = self._disk()
        yield 'disk', (f'{readable_bytes(needed)} of checkpoints, '
                       f'{readable_bytes(free)} free')

    def warnings(self):
        """Sentences: what looks wrong, and which setting to change."""
        if self.hook.anew:
            yield f'{self.hook.work_dir} {NO_CHECKPOINT}'
        losses = torch.tensor(self.hook.losses)
        if not losses.isfinite().all():
            yield ('the loss is not finite: lower optim_wrapper.optimizer.lr, '
                   'or look at the images')
        broken = [
            name for name, param in self.model.named_parameters()
            if not param.isfinite().all()
        ]
        if broken:
            yield f'{len(broken)} parameters are not finite, e.g. {broken[0]}'
        for name, branch in branches_of(self.runner.cfg.model).items():
            if branch.teacher.checkpoint == 'random':
                yield ("the teacher's weights are random: set "
                       f'{place_of(name)}.teacher.checkpoint')
        if self.hook.skipped:
            path, reason = next(iter(self.hook.skipped.items()))
            yield (f'{len(self.hook.skipped)} images could not be read, e.g. '
                   f'{path}: {reason}')
        if 2 * len(self.hook.dark) > len(self.hook.sides):
            yield (f'{len(self.hook.dark)} of {len(self.hook.sides)} images '
                   f'are nearly black, e.g. {self.hook.dark[0]}: if 16-bit '
                   'files hold 12 bits, set value_range=[0, 4095] of '
                   'mmfd.LoadImage or mmfd.LoadCrop in the pipeline')
        crop = self.runner.cfg.model.get('backbone', {}).get('img_size')
        if isinstance(crop, int) and median(self.hook.sides) < crop:
            yield (f'half of the images are smaller than the {crop} pixels '
                   'that the student sees')
        cores, workers = system.available_cores(), self.loader.num_workers
        if advice := workers_lacking(workers, self.wait):
            yield advice
        if workers > cores:
            yield (f'train_dataloader.num_workers={workers} for {cores} '
                   'cores: lower it')
        if len(self.loader) < 10:
            yield (f'an epoch has {len(self.loader)} iterations: schedules '
                   'count in epochs; lower train_dataloader.batch_size')
        memory = self._memory()
        if memory and memory[0] > 0.9 * memory[1]:
            yield ('memory is nearly full: lower train_dataloader.batch_size '
                   'and raise optim_wrapper.accumulative_counts as much')
        needed, free = self._disk()
        if needed > free:
            yield ('the disk is too small for the checkpoints: set --work-dir '
                   'or default_hooks.checkpoint.max_keep_ckpts')
        fp32 = not hasattr(self.runner.optim_wrapper, 'dtype')
        if torch.cuda.is_available() and fp32:
            yield 'the GPU computes in fp32: add --amp'

    def _held_out(self):
        if self.runner.val_loop is None:
            return 'none held out'
        dataset = self.runner.val_dataloader.dataset
        classes = len(dataset.metainfo.get('classes') or ())
        return f'{len(dataset):,} held out' + (f' in {classes:,} classes' if
                                               classes else ', without labels')

    def _sources(self):
        """Lines: which folders were read, for the splits of mmfd's sets."""
        loaders = [self.loader]
        if self.runner.val_loop is not None:
            loaders.append(self.runner.val_dataloader)
        for loader in loaders:
            if isinstance(loader.dataset, ImageFolder):
                yield loader.dataset.source

    def _memory(self):
        """Bytes: the peak so far, and all there are; None if not known."""
        if torch.cuda.is_available():
            return (torch.cuda.max_memory_reserved(),
                    torch.cuda.mem_get_info()[1])
        used, total = system.peak_memory(children=True), system.total_memory()
        if used is None or total is None:
            return None
        return used * get_world_size(), total

    def _disk(self):
        """Bytes: of all checkpoints that will be kept, and free."""
        state = sum(t.nbytes for t in self.model.state_dict().values())
        trained = sum(p.nbytes for p in self.model.parameters()
                      if p.requires_grad)
        folder = next(
            f for f in (Path(self.hook.work_dir).absolute(),
                        *Path(self.hook.work_dir).absolute().parents)
            if f.exists())
        # an optimizer has two moments for each number that is trained
        return (checkpoint_bytes(self.runner.cfg, self.runner.max_epochs,
                                 self.runner.max_iters, state + 2 * trained),
                shutil.disk_usage(folder).free)
