"""The learning rate: linear warm-up, then half a cosine."""
from math import cos, pi

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from mmfd.hosts import log, openmmlab
from mmfd.registry import HOOKS


def warmup_cosine(step, base, warmup_lr, min_lr, warmup, total):
    """The learning rate after `step` steps (official `lr_scheduler.py`).

    Args:
        step (int): schedule steps done.
        base, warmup_lr, min_lr (float): highest, first and last rate.
        warmup, total (int): in steps.
    """
    if step < warmup:
        return warmup_lr + step * (base - warmup_lr) / warmup
    done = (step - warmup) / (total - warmup)
    return min_lr + (base - min_lr) * (1 + cos(pi * done)) / 2


@HOOKS.register_module()
class WarmupCosineHook(Hook):
    """Set the learning rate of every group before every iteration.

    It replaces the host's `param_scheduler` hook. The optimizer's `lr`,
    `warmup_lr` and `min_lr` are stated for a batch of `images` images and
    scaled to the real one: `batch_size` x processes x accumulation / `images`.
    `warmup_lr` and `min_lr` are the same for every layer, whatever its layer
    decay. The official code steps its schedule after each update with that
    update's own index, so updates 0 and 1 both run at `warmup_lr`; so do ours.
    Where gradients are accumulated it counts iterations, not updates, and is
    up to one update ahead of ours.

    The rate depends on the iteration and the config alone: a resumed run
    takes its rates from its config and none from the checkpoint, so it can
    continue with lower ones.

    Args:
        warmup_epochs (float): length of the warm-up.
        warmup_lr, min_lr (float): first and last rate.
        images (int): batch that all rates are stated for.
    """
    priority = 'HIGHEST'  # before the host logs the rate

    def __init__(self, warmup_epochs, warmup_lr, min_lr, images=512):
        self.warmup_epochs = warmup_epochs
        self.warmup_lr = warmup_lr
        self.min_lr = min_lr
        self.images = images

    def after_load_checkpoint(self, runner, checkpoint):
        """Keep the moments of the file; take all settings from the config."""
        state = checkpoint.get('optimizer')
        if not (runner.cfg.get('resume') and state):
            return
        groups = runner.optim_wrapper.param_groups  # base settings are last
        saved = [
            *state['param_groups'],
            state.get('base_param_settings') or {}
        ]
        for old, new in zip(saved, groups):
            settings = {key: new[key] for key in new if key != 'params'}
            old.update(settings, initial_lr=new['lr'])

    def before_train(self, runner):
        loader = runner.train_dataloader
        self.accumulation = openmmlab.accumulative_counts(runner.optim_wrapper)
        batch = (
            loader.batch_sampler.batch_size * get_world_size() *
            self.accumulation)
        self.ratio = batch / self.images
        self.warmup = int(self.warmup_epochs * len(loader) / self.accumulation)
        groups = runner.optim_wrapper.param_groups
        for group in groups:  # a resumed group has it already
            group.setdefault('initial_lr', group['lr'])
        highest = max(group['initial_lr'] for group in groups)
        log.info(f'lr: {highest:g} for {self.images} images, so {highest:g} x '
                 f'{self.ratio:g} = {highest * self.ratio:g} for the {batch} '
                 'images of an update')

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for group in runner.optim_wrapper.param_groups:
            group['lr'] = warmup_cosine(
                max(runner.iter // self.accumulation - 1,
                    0), self.ratio * group['initial_lr'],
                self.ratio * self.warmup_lr, self.ratio * self.min_lr,
                self.warmup, runner.max_iters // self.accumulation)
