"""Check that the loss, the gradients and the weights of a run are finite."""
from collections import deque
from statistics import median

import torch
from mmengine.hooks import Hook
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from mmfd.errors import Refused
from mmfd.hosts import pytorch
from mmfd.registry import HOOKS
from mmfd.training.last_checkpoint import last_valid_checkpoint
from mmfd.training.optim import AmpOptimWrapper
from mmfd.training.run_folder import checkpoint_folder

WINDOW = 100  # losses that a new one is compared with
# Updates in a row that the loss scaler of fp16 may skip; each halves the scale
MAX_SCALES = 30
META = 'nan_guard'  # key in a checkpoint
SKIPPED_BY_SCALER = -1.  # stands for the norm of such an update


@HOOKS.register_module()
class NanGuardHook(Hook):
    """Stop when a loss, gradient or weight is NaN or infinite.

    Losses and gradient norms stay on the device and are checked together
    every few iterations, so that no iteration waits for them; also before a
    checkpoint is written, with all weights, so that no checkpoint holds such
    values. The message names the first iteration that went wrong.

    Args:
        skip (int): how many updates in a row may be skipped, with weights and
            moments left as they are, because a gradient is not finite. If
            not 0, each update waits for its gradients. Updates that the loss
            scaler of fp16 skips, to try a smaller scale, do not count unless
            there are more than `MAX_SCALES` in a row.
        interval (int): iterations between two checks.
        spike (float): a loss of more than this times the median of the last
            100 is a warning in the log.

    Raises:
        Refused: names what is not finite, the iteration, and the checkpoint
            to resume from.
    """

    def __init__(self, skip=0, interval=10, spike=3.):
        self.skip, self.interval, self.spike = skip, interval, spike
        self.skipped = 0  # updates in a row
        self.scaler_skipped = 0  # updates in a row
        self.norm = None  # of the last gradients
        self.unchecked = []  # (iteration, epoch, loss, norm)
        self.losses = deque(maxlen=WINDOW)

    def before_train(self, runner):
        self.runner = runner
        runner.optim_wrapper.optimizer.register_step_pre_hook(
            self._before_update)

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.unchecked.append((runner.iter + 1, runner.epoch + 1,
                               outputs['loss'].detach(), self.norm))
        self.norm = None
        if len(self.unchecked) >= self.interval:
            self._check(runner)

    def before_save_checkpoint(self, runner, checkpoint):
        self._check(runner)
        for name, value in checkpoint['state_dict'].items():
            if not value.isfinite().all():
                self._stop(runner, f'the weight {name} is not finite after',
                           runner.iter, runner.epoch)
        checkpoint['meta'][META] = dict(
            losses=[*self.losses],
            skipped=self.skipped,
            scaler_skipped=self.scaler_skipped)

    def after_load_checkpoint(self, runner, checkpoint):
        before = checkpoint.get('meta', {}).get(META)
        if runner.cfg.get('resume') and before:
            self.losses.extend(before['losses'])
            self.skipped = before['skipped']
            self.scaler_skipped = before['scaler_skipped']

    def _before_update(self, optimizer, args, kwargs):
        """Note the gradient norm; skip the update if need be."""
        params = [p for g in optimizer.param_groups for p in g['params']]
        wrapper = self.runner.optim_wrapper
        self.norm = None
        if isinstance(wrapper, AmpOptimWrapper):
            self.norm = wrapper.norm
        if self.norm is None:  # gradients are not clipped
            self.norm = _norm([p.grad for p in params if p.grad is not None])
        # set by a loss scaler on a fused optimizer, which then skips the
        # update itself; of others it does not call `step` at all
        found_inf = pytorch.infinite_gradients(optimizer)
        if found_inf is not None:
            self.norm = self.norm.where(found_inf == 0, SKIPPED_BY_SCALER)
        if not self.skip or self.norm.isfinite():
            self.skipped = 0
            return
        self.skipped += 1
        iteration, epoch = self.runner.iter + 1, self.runner.epoch + 1
        if self.skipped > self.skip:
            self._stop(
                self.runner, f'the gradient is {self.norm.item()} and '
                f'{self.skip} updates in a row were skipped before', iteration,
                epoch)
        self.runner.logger.warning(
            f'iteration {iteration:,}: the gradient is {self.norm.item()}; '
            f'its update is skipped, {self.skipped} of at most {self.skip} in '
            'a row')
        self.norm = None
        for param in params:
            param.grad = None

    def _check(self, runner):
        """Read all collected losses and norms from the device at once."""
        unchecked, self.unchecked = self.unchecked, []
        if not unchecked:
            return
        zero = torch.zeros_like(unchecked[0][2])
        numbers = torch.stack([
            torch.stack((loss, zero if norm is None else norm.to(loss)))
            for *_, loss, norm in unchecked
        ]).tolist()
        for (iteration, epoch, *_), (loss, norm) in zip(unchecked, numbers):
            by_scaler = norm == SKIPPED_BY_SCALER
            self.scaler_skipped = self.scaler_skipped + 1 if by_scaler else 0
            if self.scaler_skipped > MAX_SCALES:
                self._stop(
                    runner, f'no gradient was finite in {MAX_SCALES} updates, '
                    'each with half the loss scale of fp16, before', iteration,
                    epoch)
            for name, value in ('loss', loss), ('gradient', norm):
                if abs(value) < float('inf'):
                    continue
                if name == 'gradient' or not self.skip:
                    self._stop(runner, f'the {name} is {value} in', iteration,
                               epoch)
            self._warn_of_spike(runner, iteration, loss)

    def _warn_of_spike(self, runner, iteration, loss):
        usual = median(self.losses) if len(self.losses) > 9 else float('inf')
        if loss > self.spike * usual:
            runner.logger.warning(
                f'iteration {iteration:,}: the loss of {loss:.4g} is '
                f'{loss / usual:.1f} times the usual {usual:.4g}')
        if abs(loss) < float('inf'):
            self.losses.append(loss)

    def _stop(self, runner, what, iteration, epoch):
        last = last_valid_checkpoint(checkpoint_folder(runner.cfg))
        raise Refused(
            f'{what} iteration {iteration:,}, epoch {epoch}. The last valid '
            f'checkpoint is {last}: resume from it '
            'with --resume and a lower optim_wrapper.optimizer.lr, or '
            'let up to 5 updates in a row be skipped with '
            'default_hooks.numbers.skip=5')


def _norm(grads):
    norm = get_total_norm(grads)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
