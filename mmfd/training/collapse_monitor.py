"""Watch a distillation on a few held-out images, and warn of its faults."""
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmfd.data.sampler import SeededIndex
from mmfd.errors import Refused
from mmfd.hosts import openmmlab
from mmfd.registry import HOOKS, branches_of, place_of
from mmfd.training import faults
from mmfd.training.lr_schedule import WarmupCosineHook

META = 'verdict'  # key in a checkpoint, older than the name of the hook
LOGGED = 'student_std', 'dead_channels'
LOGGED_OF_BRANCHES = 'cosine', 'explained'


@HOOKS.register_module()
class CollapseMonitorHook(Hook):
    """Warn when the student collapses, diverges or sees the wrong pixels.

    Before training and every `interval` iterations it looks at the same few
    images and logs, in a line and points of curves of their own,

    - `student_std`: standard deviation over all tokens of a channel of the
      student, mean over its channels;
    - `dead_channels`: share of its channels (0-1) that are constant;
    - `cosine`: mean cosine of prediction and target;
    - `explained`: share of the target's variance between images that the
      prediction explains: 1 at most, and 0 for the mean of each position,
      which can be learnt without looking at an image;
    - `teacher`: a number that changes only if the teacher does, in a resumed
      run too.

    Where there are several teachers, `cosine` and `explained` begin with the
    name of each one's branch, as `clip_cosine`.

    Each fault is one warning that says which setting to change. It is
    repeated only if the fault disappears and returns. That nothing is learnt
    is said after the warm-up (of `mmfd.WarmupCosineHook`; with other schedules
    after `interval` iterations), by `held_out/explained` of all held-out
    images if the run evaluates them.

    Args:
        interval (int): iterations between two looks.
        images (int): how many held-out images, at least 2; training images if
            fewer are held out.

    Raises:
        Refused: if the model has no teacher, or for fewer images.
    """

    def __init__(self, interval=500, images=8):
        if images < 2:
            raise Refused(
                f'images={images}: mmfd.CollapseMonitorHook compares '
                'images, set at least 2')
        self.interval, self.images = interval, images
        self.first = None  # what was measured before training
        self.before_resume = {}  # the same, of a run that is resumed
        self.warned = set()  # names of the faults at the last look

    def before_train(self, runner):
        if not branches_of(runner.cfg.model):
            raise Refused(
                'mmfd.CollapseMonitorHook is for distillation, and this model '
                'has no teacher: take the hook out of the config')
        data, self.kind = runner.train_dataloader.dataset, 'training'
        if runner.val_loop and len(runner.val_dataloader.dataset) > 1:
            data, self.kind = runner.val_dataloader.dataset, 'held-out'
        count = min(self.images, len(data))
        samples = [
            data[SeededIndex(i * len(data) // count, 0)] for i in range(count)
        ]  # seeded, for training images are cropped at random
        self.batch = {key: [s[key] for s in samples] for key in samples[0]}
        self.first = measure(runner.model, self.batch)
        model, samples = openmmlab.unwrapped(
            runner.model), self.batch['data_samples']
        pixels = self.first['pixels']
        self._warn(
            runner,
            dict([
                *faults.wrong_channel_order(pixels, samples),
                *faults.wrong_statistics('model.normalize', model.normalize,
                                         pixels),
                *self._faults_of_teachers(runner.cfg.model, model, pixels)
            ]))
        if not runner.iter:
            self._log(runner, self.first, 0)
        self._check(runner, self.first)

    def _faults_of_teachers(self, config, model, pixels):
        """(name, sentence) of what is wrong with their statistics."""
        for name, branch in branches_of(config).items():
            where = f'{place_of(name)}.teacher'
            yield from faults.wrong_statistics(
                f'{where}.normalize', model.branches[name].teacher.normalize,
                pixels)
            yield from faults.other_statistics_than_trained_with(
                where, branch.teacher)

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if self.every_n_train_iters(runner, self.interval):
            now = measure(runner.model, self.batch)
            self._log(runner, now, runner.iter + 1)
            self._check(runner, now)

    def after_val_epoch(self, runner, metrics=None):
        if self.first is None or 'held_out/explained' not in metrics:
            return
        others, found = self.warned - {faults.LEARNING}, {}
        if not others:  # which would be the reason
            found = self._not_learning(runner, metrics['held_out/explained'],
                                       runner.iter)
        self._warn(runner, found)
        self.warned = others | {*found}

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['meta'][META] = dict(
            seen=self.first['seen'].tolist(),
            teacher=self.first['teacher'].tolist(),
            loss=self._loss_before_training(),
            warned=sorted(self.warned))

    def after_load_checkpoint(self, runner, checkpoint):
        if runner.cfg.get('resume'):
            self.before_resume = checkpoint.get('meta', {}).get(META) or {}
            self.warned = {*self.before_resume.get('warned', ())}

    def _log(self, runner, now, iteration):
        """Write numbers at the iteration that they were measured after.

        The host's lines would repeat them until the next look.
        """
        numbers = {name: now[name] for name in LOGGED}
        for branch, side in now['branches'].items():
            prefix = branch and f'{branch}_'
            numbers |= {
                prefix + name: side[name]
                for name in LOGGED_OF_BRANCHES
            }
        numbers['teacher'] = now['teacher'].mean().item()
        text = '  '.join(f'{name}: {value:.4f}'
                         for name, value in numbers.items())
        runner.logger.info(f'{len(now["seen"])} {self.kind} images after '
                           f'iteration {iteration:,}:  {text}')
        runner.visualizer.add_scalars(
            numbers, step=iteration, file_path=f'{runner.timestamp}.json')

    def _loss_before_training(self):
        return self.before_resume.get('loss', self.first['loss'])

    def _check(self, runner, now):
        found = {
            **dict(faults.changed_teacher(now, self.first, 'before training')),
            **dict(faults.training_faults(now, self._loss_before_training()))
        }
        if self.before_resume:
            before = {
                name: torch.tensor(self.before_resume[name])
                for name in ('seen', 'teacher')
            }
            found.update(
                faults.changed_teacher(now, before, 'before it was resumed'))
        kept = set()
        if runner.val_loop:
            kept = self.warned & {faults.LEARNING}
        elif not found and now is not self.first:
            shares = [side['explained'] for side in now['branches'].values()]
            found = self._not_learning(runner, max(shares), runner.iter + 1)
        self._warn(runner, found)
        self.warned = {*found} | kept

    def _not_learning(self, runner, explained, iteration):
        """The fault (name -> sentence), if any, after so many iterations."""
        warmups = [
            hook.warmup * hook.accumulation for hook in runner.hooks
            if isinstance(hook, WarmupCosineHook)
        ]
        if iteration < max(warmups, default=self.interval) or explained > 0:
            return {}
        return dict(faults.not_learning(explained, iteration))

    def _warn(self, runner, found):
        """Log each fault (name -> sentence) that is new."""
        if is_main_process():
            for name, sentence in found.items():
                if name not in self.warned:
                    runner.logger.warning(f'CollapseMonitorHook: {sentence}')


@contextmanager
def _recorded(modules):
    """Record the last call of modules: name -> (first argument, output)."""
    calls = {}
    handles = [
        module.register_forward_hook(lambda module, args, out, name=name: calls
                                     .update({name: (args[0], out)}))
        for name, module in modules.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def measure(model, batch):
    """Run a distillation model on a few images, in eval mode.

    Args:
        model (nn.Module): a distillation, maybe wrapped.
        batch (dict): as its data preprocessor takes it.

    Returns:
        dict: floats that `CollapseMonitorHook` logs or compares, and of the
        images

        - pixels (B, 3, H, W): RGB 0-255, which the teacher gets;
        - seen (B, ): mean of these, to recognise the images by;
        - teacher (T * B, ): a weighted sum of each target of T teachers, to
          recognise them by;
        - branches: of each teacher the floats that are about it alone.
    """
    inner = openmmlab.unwrapped(model)
    training = model.training
    model.eval()
    modules = dict(backbone=inner.backbone)
    for name, branch in inner.branches.items():
        modules |= {
            (name, 'teacher'): branch.teacher,
            (name, 'neck'): branch.neck
        }
    with _recorded(modules) as calls:
        samples = model.val_step(batch)
    model.train(training)
    targets = {name: calls[name, 'teacher'][1] for name in inner.branches}
    preds = {name: calls[name, 'neck'][1].float() for name in inner.branches}
    pixels = next(calls[name, 'teacher'][0] for name in inner.branches)
    tokens = calls['backbone'][1][-1].float()
    if tokens.ndim == 4:
        tokens = tokens.flatten(2).transpose(1, 2)  # (B, L, C)
    std = tokens.flatten(0, 1).std(0)
    scale = tokens.square().mean().sqrt()
    return dict(
        pixels=pixels,
        seen=pixels.mean((1, 2, 3)).cpu(),
        teacher=torch.cat([_weighted_sum(t) for t in targets.values()]).cpu(),
        loss=torch.stack([s.loss for s in samples]).mean().item(),
        student_std=std.mean().item(),
        dead_channels=(std <= 1e-3 * scale).float().mean().item(),
        branches={
            name: _compared(preds[name], target)
            for name, target in targets.items()
        })


def _weighted_sum(target):
    """(B, L, C) -> (B, )"""
    ramp = torch.linspace(-1, 1, target[0].numel(), device=target.device)
    return target.flatten(1).float() @ ramp


def _compared(pred, target):
    """Floats about a prediction and its target, both (B, L, C)."""
    return dict(
        pred_std=pred.flatten(0, 1).std(0).mean().item(),
        target_std=target.flatten(0, 1).std(0).mean().item(),
        target_scale=target.square().mean().sqrt().item(),
        cosine=F.cosine_similarity(pred, target, dim=-1).mean().item(),
        explained=explained(pred, target))


def explained(pred, target):
    """The share of the target's variance between images that is predicted.

    1 is the target itself. 0 is expected of the mean of each position over
    many other images.

    Args:
        pred, target (Tensor): (B, L, C) of at least 2 images.

    Returns:
        float: at most 1.
    """
    error = (pred - target).square().mean()
    # the mean of these images is nearer to them than that of many others
    return 1 - (error / target.var(0).mean()).item()
