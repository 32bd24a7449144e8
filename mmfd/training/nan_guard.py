"""Whether the numbers of a run are sound: the loss, gradients, weights."""
from collections import deque
from statistics import median

import torch
from mmengine.hooks import Hook
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from mmfd.errors import Refused
from mmfd.registry import HOOKS
from mmfd.training.loop import last_whole

SEEN = 100  # iterations that a loss is compared with
SCALES = 30  # that a loss scaler may try in a row, each half of the last
LEFT_OUT = -1.  # in the place of a norm, where it does


@HOOKS.register_module()
class NanGuardHook(Hook):
    """Stop where the loss or a gradient is no number, or leave updates out.

    Losses and the norms of gradients wait on the device and are looked at
    every few iterations, so that none of them is waited for; and before a
    checkpoint is written, with the weights, so that no file holds what is no
    number. The message names the iteration that was the first.

    Args:
        skip (int): how many updates in a row may be left out, weights and
            moments untouched, because a gradient is infinite or no number.
            If not 0, each update waits for its gradients. Those that the
            loss scaler of fp16 leaves out, to try a smaller scale, do not
            count, but for `SCALES` in a row.
        interval (int): iterations between two looks.
        spike (float): a loss of so many times the median of the last 100 is
            noted in the log.

    Raises:
        Refused: says what is no number, where, and which checkpoint to go
            on from.
    """

    def __init__(self, skip=0, interval=10, spike=3.):
        self.skip, self.interval, self.spike = skip, interval, spike
        self.skipped, self.norm = 0, None  # in a row; of the last gradients
        self.tried = 0  # scales, in a row
        self.unseen = []  # (iteration, epoch, loss, norm)
        self.losses = deque(maxlen=SEEN)

    def before_train(self, runner):
        self.runner = runner
        runner.optim_wrapper.optimizer.register_step_pre_hook(self._look)

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        self.unseen.append((runner.iter + 1, runner.epoch + 1,
                            outputs['loss'].detach(), self.norm))
        self.norm = None
        if len(self.unseen) >= self.interval:
            self._check(runner)

    def before_save_checkpoint(self, runner, checkpoint):
        self._check(runner)
        for name, value in checkpoint['state_dict'].items():
            if not value.isfinite().all():
                self._stop(runner, f'the weight {name} is no number after',
                           runner.iter, runner.epoch)

    def _look(self, optimizer, args, kwargs):
        """At gradients before an update; take them away if it is left out."""
        params = [p for g in optimizer.param_groups for p in g['params']]
        self.norm = getattr(self.runner.optim_wrapper, 'norm', None)
        if self.norm is None:  # no gradient was clipped
            self.norm = _norm([p.grad for p in params if p.grad is not None])
        found = getattr(optimizer, 'found_inf', None)  # by a loss scaler
        if found is not None:  # which is told so within a fused step
            self.norm = self.norm.where(found == 0, LEFT_OUT)
        if not self.skip or self.norm.isfinite():
            self.skipped = 0
            return
        self.skipped += 1
        where = self.runner.iter + 1, self.runner.epoch + 1
        if self.skipped > self.skip:
            self._stop(
                self.runner, f'the gradient is {self.norm.item()} and '
                f'{self.skip} updates have been left out in a row before',
                *where)
        self.runner.logger.warning(
            f'iteration {where[0]:,}: the gradient is {self.norm.item()}; its '
            f'update is left out, {self.skipped} of at most {self.skip} in a '
            'row')
        self.norm = None
        for param in params:
            param.grad = None

    def _check(self, runner):
        """Look at what has been collected, all at once."""
        unseen, self.unseen = self.unseen, []
        if not unseen:
            return
        nothing = torch.zeros_like(unseen[0][2])
        numbers = torch.stack([
            torch.stack((loss, nothing if norm is None else norm.to(loss)))
            for *_, loss, norm in unseen
        ]).tolist()
        for (iteration, epoch, *_), (loss, norm) in zip(unseen, numbers):
            self.tried = self.tried + 1 if norm == LEFT_OUT else 0
            if self.tried > SCALES:
                self._stop(
                    runner, f'no gradient was a number in {SCALES} updates, '
                    'each with half the scale of fp16, before', iteration,
                    epoch)
            for name, value in ('loss', loss), ('gradient', norm):
                if abs(value) < float('inf'):
                    continue
                if name == 'gradient' or not self.skip:
                    self._stop(runner, f'the {name} is {value} in', iteration,
                               epoch)
            self._note_spike(runner, iteration, loss)

    def _note_spike(self, runner, iteration, loss):
        usual = median(self.losses) if len(self.losses) > 9 else float('inf')
        if loss > self.spike * usual:
            runner.logger.warning(
                f'iteration {iteration:,}: the loss of {loss:.4g} is '
                f'{loss / usual:.1f} times the usual {usual:.4g}')
        if abs(loss) < float('inf'):
            self.losses.append(loss)

    def _stop(self, runner, what, iteration, epoch):
        raise Refused(
            f'{what} iteration {iteration:,}, epoch {epoch}. The last good '
            f'checkpoint is {last_whole(runner.work_dir)}: go on from it with '
            '--resume and a lower optim_wrapper.optimizer.lr, or let '
            'default_hooks.numbers.skip=5 updates in a row be left out')


def _norm(grads):
    norm = get_total_norm(grads)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
