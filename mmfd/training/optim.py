"""What the recipes ask of optimizers: groups, learning rate, precision."""
import logging
from contextlib import contextmanager
from math import cos, pi

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch.distributed.tensor import DTensor

from mmfd.errors import Refused
from mmfd.registry import (HOOKS, OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS,
                           OPTIMIZERS)

FUSED = {'cpu', 'cuda'}  # devices of PyTorch's fused AdamW


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """One parameter group per layer and kind of weight decay.

    Official file `optimizer.py`: no decay for what is 1-D, for biases and for
    `no_decay`; all else is decayed, a ViT's relative bias table too. With
    `layer_decay` d the lr of layer i of L + 2 is multiplied by d^(L+1-i);
    the backbone's own `get_layer_depth` knows i, so all three host libraries
    share this class.

    Args:
        paramwise_cfg (dict): may set `layer_decay` (float), `no_decay` and
            `stem` (tuples of names within the backbone: never decayed, nor
            what is below them; of layer 0 although the host's
            `get_layer_depth` says otherwise).
    """
    defaults = dict(
        layer_decay=1.0,
        no_decay=('cls_token', 'pos_embed', 'absolute_pos_embed', 'cpb_mlp',
                  'logit_scale'),
        stem=())

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        unknown = set(paramwise_cfg or {}) - set(self.defaults)
        if unknown:
            raise Refused(f'paramwise_cfg has {sorted(unknown)}; it may '
                          f'have {sorted(self.defaults)}')
        super().__init__(optim_wrapper_cfg,
                         dict(self.defaults, **(paramwise_cfg or {})))
        if self.paramwise_cfg['layer_decay'] != 1 and self.base_lr is None:
            raise Refused('layer_decay multiplies the lr: set '
                          'optim_wrapper.optimizer.lr')

    def __call__(self, model):
        """The wrapper; AdamW fused, in one pass, where the device has it."""
        devices = {param.device.type for param in model.parameters()}
        if self.optimizer_cfg['type'] == 'AdamW' and devices <= FUSED:
            self.optimizer_cfg = {'fused': True, **self.optimizer_cfg}
        return super().__call__(model)

    def add_params(self, params, module):
        """Append the groups of `module` to the list `params`."""
        groups = {}
        for name, param in module.named_parameters():
            if param.requires_grad:
                key = self._lr_scale(module, name), self._decays(name, param)
                groups.setdefault(key, []).append((name, param))
        for (scale, decays), members in sorted(groups.items()):
            group = dict(params=members)  # with their names
            if self.base_lr is not None:
                group['lr'] = self.base_lr * scale
            if not decays:
                group['weight_decay'] = 0.
            params.append(group)

    def _decays(self, name, param):
        return not (param.ndim == 1 or name.endswith('.bias') or
                    set(name.split('.')) & set(self.paramwise_cfg['no_decay']))

    def _lr_scale(self, model, name):
        decay = self.paramwise_cfg['layer_decay']
        if decay == 1:
            return 1.
        depth, depths = model.backbone.get_layer_depth(name, 'backbone.')
        own = name.removeprefix('backbone.')
        if own.startswith(tuple(self.paramwise_cfg['stem'])):
            depth = 0
        return decay**(depths - 1 - depth)


def warmup_cosine(step, base, warmup_lr, min_lr, warmup, total):
    """Linear warm-up, then half a cosine (official `lr_scheduler.py`).

    Args:
        step (int): how many schedule steps are done.
        base, warmup_lr, min_lr (float): peak, first and last lr.
        warmup, total (int): in steps.
    """
    if step < warmup:
        return warmup_lr + step * (base - warmup_lr) / warmup
    done = (step - warmup) / (total - warmup)
    return min_lr + (base - min_lr) * (1 + cos(pi * done)) / 2


@HOOKS.register_module()
class WarmupCosineHook(Hook):
    """Set the lr of every group before every iteration.

    Takes the place of the host's `param_scheduler` hook. The optimizer's
    `lr`, `warmup_lr` and `min_lr` are stated per `images` and multiplied by
    the real batch x processes x accumulation / `images`. Warm-up and minimum
    are absolute: the same for every layer, whatever the layer decay. As the
    official code steps its schedule after each update with that update's own
    index, updates 0 and 1 both run at `warmup_lr`.

    The lr is a function of the iteration and the config alone: a resumed run
    takes its rates from its config, lower ones too, and nothing from the file.
    """
    priority = 'HIGHEST'  # before the host logs the lr

    def __init__(self, warmup_epochs, warmup_lr, min_lr, images=512):
        self.warmup_epochs = warmup_epochs
        self.warmup_lr = warmup_lr
        self.min_lr = min_lr
        self.images = images

    def after_load_checkpoint(self, runner, checkpoint):
        """Go on with the config's rates and decays; the file has moments."""
        state = checkpoint.get('optimizer')
        if not (runner.cfg.get('resume') and state):
            return
        own = runner.optim_wrapper.param_groups  # the base settings are last
        base = state.get('base_param_settings')
        for old, new in zip([*state['param_groups'], base or {}], own):
            kept = {key: new[key] for key in new if key != 'params'}
            old.update(kept, initial_lr=new['lr'])

    def before_train(self, runner):
        loader = runner.train_dataloader
        self.accumulated = runner.optim_wrapper._accumulative_counts
        batch = (
            loader.batch_sampler.batch_size * get_world_size() *
            self.accumulated)
        self.ratio = batch / self.images
        self.warmup = int(self.warmup_epochs * len(loader) / self.accumulated)
        groups = runner.optim_wrapper.param_groups
        for group in groups:  # a resumed group has its own already
            group.setdefault('initial_lr', group['lr'])
        runner.logger.info(
            f'lr: per {self.images} images, so x {self.ratio:g} for {batch} '
            f'images an update: {max(g["initial_lr"] for g in groups):g} -> '
            f'{max(g["initial_lr"] for g in groups) * self.ratio:g}')

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for group in runner.optim_wrapper.param_groups:
            group['lr'] = warmup_cosine(
                max(runner.iter // self.accumulated - 1,
                    0), self.ratio * group['initial_lr'],
                self.ratio * self.warmup_lr, self.ratio * self.min_lr,
                self.warmup, runner.max_iters // self.accumulated)


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Mixed precision on any device.

    bf16 where the device computes in it, else fp16 with a loss scaler on a
    GPU and fp32 on a CPU. The host's own refuses to run without a GPU, and
    waits in each update for the norm that it clips; this one leaves it on
    the device, in `norm`, for a hook to take. What none has taken is logged
    an update later.

    Args:
        dtype (str): `bfloat16` or `float16`. None picks as above. The log
            says where there is no bf16.
    """

    def __init__(self, dtype=None, **kwargs):
        super().__init__(**kwargs)
        self.device = torch.device(get_device()).type
        fast = _fast_dtype(self.device)
        self.dtype = getattr(torch, dtype) if dtype else fast
        if fast is not torch.bfloat16 and dtype in (None, 'bfloat16'):
            print_log(
                f'this {self.device} does not compute in bf16: ' +
                (f'it is emulated; without dtype {fast} is taken' if dtype else
                 f'training in {fast}'), 'current', logging.WARNING)
        self.scaler = torch.amp.GradScaler(
            self.device, enabled=self.dtype is torch.float16)
        self.norm = None  # of the last gradients, before they were clipped

    @contextmanager
    def optim_context(self, model):
        enabled = self.dtype is not torch.float32
        with super().optim_context(model), torch.autocast(
                self.device, self.dtype if enabled else None, enabled):
            yield

    def backward(self, loss, **kwargs):
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def _clip_grad(self):
        params = [p for group in self.param_groups for p in group['params']]
        norm = self.clip_func([p for p in params if p.grad is not None],
                              **self.clip_grad_kwargs)
        left = self.taken_norm()
        if left is not None:
            self.message_hub.update_scalar(f'train/{self.grad_name}', left)
        self.norm = norm.full_tensor() if isinstance(norm, DTensor) else norm

    def taken_norm(self):
        """`norm`, a scalar or None, which is None afterwards."""
        norm, self.norm = self.norm, None
        return norm

    def state_dict(self):
        return dict(super().state_dict(), loss_scaler=self.scaler.state_dict())

    def load_state_dict(self, state_dict):
        state_dict = dict(state_dict)
        scaler = state_dict.pop('loss_scaler', None)
        if scaler:  # empty where the run so far needed none
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)


@OPTIMIZERS.register_module()
class LARS(torch.optim.Optimizer):
    """SGD whose steps are as long as the weights they change, times `trust`.

    MoCo v3's, as in the official `utils.py`, for the linear probe: what is
    1-D gets neither the scaling nor weight decay. The momentum holds steps
    without their lr; the host's LARS puts the lr in, so under a curve of
    learning rates the two differ.
    """

    def __init__(self, params, lr, momentum=0.9, weight_decay=0., trust=1e-3):
        super().__init__(
            params,
            dict(
                lr=lr,
                momentum=momentum,
                weight_decay=weight_decay,
                trust=trust))

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for param in group['params']:
                if param.grad is not None:
                    self._update(param, **group)
        return loss

    def _update(self, param, lr, momentum, weight_decay, trust, **_):
        step = param.grad
        if param.ndim > 1:
            step = step + weight_decay * param
            ratio = trust * param.norm() / step.norm()
            defined = ratio.isfinite() & (ratio > 0)  # neither norm is 0
            step = step * ratio.where(defined, 1)
        state = self.state[param]
        if not state:
            state['momentum'] = torch.zeros_like(param)
        state['momentum'].mul_(momentum).add_(step)
        param.sub_(lr * state['momentum'])


def _fast_dtype(device):
    if device == 'cpu':
        fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    if device == 'cuda' and not torch.cuda.is_bf16_supported(
            including_emulation=False):
        return torch.float16
    return torch.bfloat16
