"""One line of progress, redrawn in a terminal."""
import os
import sys
from datetime import timedelta
from math import isnan
from numbers import Real

from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from tqdm import tqdm

from mmfd.hosts import log, system
from mmfd.registry import HOOKS

COLUMNS = 100  # a line is cut off there, or where a narrower terminal ends


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show how far a run is, and what its evaluations found.

    A terminal has one line that is redrawn after every iteration. Where
    output goes elsewhere, to a file or to a terminal that cannot redraw, a
    line is printed as often as the log has one. Numbers are those of the log,
    the mean over its last lines; what was not measured is not shown.

        epoch 3/300  iteration 2,600/375,000  loss 0.1256  912 img/s  \
data 2%  ETA 3:10:12
    """
    priority = 'LOWEST'  # after all others have measured

    def before_run(self, runner):
        redraws = sys.stdout.isatty() and os.environ.get('TERM') != 'dumb'
        self.bar = tqdm(
            bar_format='{desc}',
            dynamic_ncols=True,
            leave=False,
            file=sys.stdout,
            disable=not redraws or not is_main_process())
        self.interval = next(
            (hook.interval
             for hook in runner.hooks if isinstance(hook, LoggerHook)), 1)
        self.first = True

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        loader = runner.train_dataloader
        due = (
            self.first or self.every_n_inner_iters(batch_idx, self.interval)
            or len(loader) <= self.interval  # the log has its last iteration
            and self.end_of_epoch(loader, batch_idx))
        self.first = False
        self._show(progress_line(runner), due)

    def after_val_iter(self, runner, batch_idx, data_batch, outputs):
        batches = len(runner.val_dataloader)
        self._show(f'evaluation: batch {batch_idx + 1:,}/{batches:,}')

    def after_test_iter(self, runner, batch_idx, data_batch, outputs):
        batches = len(runner.test_dataloader)
        self._show(f'test: batch {batch_idx + 1:,}/{batches:,}')

    def after_val_epoch(self, runner, metrics=None):
        if epochs(runner) > 1:
            self._print(f'epoch {runner.epoch}: {_listed(metrics)}')
        else:
            self._print(f'iteration {runner.iter:,}: {_listed(metrics)}')

    def after_test_epoch(self, runner, metrics=None):
        self._print(f'test: {_listed(metrics)}')

    def close(self):
        """Remove the line that is redrawn."""
        with system.console_may_close():
            self.bar.close()

    def _show(self, line, due=False):
        """Redraw the line; where that cannot be, print it if it is due."""
        if not self.bar.disable:
            columns = min(COLUMNS, (self.bar.ncols or COLUMNS) - 1)
            with system.console_may_close():
                self.bar.set_description_str(line[:columns])
        elif due:
            self._print(line[:COLUMNS])

    def _print(self, line):
        if is_main_process():
            with system.console_may_close():
                tqdm.write(log.wrapped(line, sys.stdout), file=sys.stdout)
                sys.stdout.flush()


def progress_line(runner):
    """How far the training of a Runner is, with the numbers of its log."""
    hub, window = runner.message_hub, runner.log_processor.window_size
    parts = []
    if epochs(runner) > 1:
        parts += [f'epoch {runner.epoch + 1}/{epochs(runner)}']
    parts += [f'iteration {runner.iter + 1:,}/{runner.max_iters:,}']
    means = {
        name.removeprefix("train/"): curve.mean(window)
        for name, curve in hub.log_scalars.items()
        if name.startswith('train/') and len(curve.data[0])
    }
    if 'loss' in means:
        parts += [f'loss {means["loss"]:.4g}']
    if 'img_per_s' in means:
        parts += [f'{means["img_per_s"]:.3g} img/s']
    elif means.get('time'):
        parts += [f'{means["time"]:.3g} s each']
    if means.get('time'):
        parts += [f'data {means["data_time"] / means["time"]:.0%}']
    if 'eta' in hub.runtime_info:
        left = timedelta(seconds=round(hub.get_info('eta')))
        parts += [f'ETA {left}']
    return '  '.join(parts)


def epochs(runner):
    """How many epochs a run has; 1 if it counts iterations."""
    return runner.max_epochs or 1


def _listed(metrics):
    return '  '.join(f'{name} {value:.4g}'
                     for name, value in (metrics or {}).items()
                     if isinstance(value, Real) and not isnan(value))
