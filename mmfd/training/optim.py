"""How weights are updated: parameter groups, mixed precision, LARS."""
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch.distributed.tensor import DTensor

from mmfd.errors import Refused
from mmfd.hosts import kernels, log
from mmfd.registry import (OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS,
                           OPTIMIZERS)

FUSED = {'cpu', 'cuda'}  # devices that PyTorch has a fused AdamW for


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """One parameter group for each layer and weight decay.

    As the official `optimizer.py`: 1-D parameters, biases and those named in
    `no_decay` have no weight decay; all others have, a ViT's table of
    relative position biases too. With `layer_decay` d the learning rate of
    layer i of L + 2 is multiplied by d^(L+1-i). The backbone's
    `get_layer_depth` gives i, so this class serves all three host libraries.

    Args:
        paramwise_cfg (dict): settings, all optional. `layer_decay` (float) is
            d, 1 for the same rate in all layers. `no_decay` (tuple[str])
            names parameters, or modules with all parameters in them, that
            have no weight decay. `stem` (tuple[str]) has beginnings of names
            in the backbone that belong to layer 0 although `get_layer_depth`
            says otherwise.

    Raises:
        Refused: for an unknown setting, or `layer_decay` without `lr`.
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
        """Build the wrapper, with the fused AdamW where the device has it."""
        devices = {param.device.type for param in model.parameters()}
        if self.optimizer_cfg['type'] == 'AdamW' and devices <= FUSED:
            self.optimizer_cfg = {'fused': True, **self.optimizer_cfg}
        return super().__call__(model)

    def add_params(self, params, module):
        """Append the groups of `module` to `params`; the host calls this."""
        groups = {}
        for name, param in module.named_parameters():
            if param.requires_grad:
                key = self._lr_scale(module, name), self._decays(name, param)
                groups.setdefault(key, []).append((name, param))
        for (scale, decays), members in sorted(groups.items()):
            group = dict(params=members)  # (name, parameter)
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
        stem = tuple(self.paramwise_cfg['stem'])
        if name.removeprefix('backbone.').startswith(stem):
            depth = 0
        return decay**(depths - 1 - depth)


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Mixed precision on any device.

    It computes in bf16 where the device supports it; otherwise in fp16 with a
    loss scaler on a GPU, and in fp32 on a CPU. The host's own wrapper needs a
    GPU, and in each update waits for the norm of the gradients that it clips.
    This one leaves the norm on the device, in `norm`, for a hook to read; a
    norm that no hook has taken is logged one update later.

    Args:
        dtype (str): `bfloat16` or `float16`; None chooses as above. A warning
            in the log says where the device has no bf16.
    """

    def __init__(self, dtype=None, **kwargs):
        super().__init__(**kwargs)
        self.device = torch.device(get_device()).type
        fast = _fast_dtype(self.device)
        self.dtype = getattr(torch, dtype) if dtype else fast
        if fast is not torch.bfloat16 and dtype in (None, 'bfloat16'):
            log.warn(f'this {self.device} does not support bf16: ' + (
                f'it is emulated, which is slow; leave out dtype to train in '
                f'{fast}' if dtype else f'training in {fast}'))
        self.scaler = torch.amp.GradScaler(
            self.device, enabled=self.dtype is torch.float16)
        self.norm = None  # of the last gradients, before clipping

    @contextmanager
    def optim_context(self, model):
        enabled = self.dtype is not torch.float32
        with super().optim_context(model), torch.autocast(
                self.device, self.dtype if enabled else None, enabled):
            yield

    def backward(self, loss, **kwargs):
        super().backward(self.scaler.scale(loss), **kwargs)

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
        previous = self.take_norm()
        if previous is not None:
            self.message_hub.update_scalar(f'train/{self.grad_name}', previous)
        self.norm = norm.full_tensor() if isinstance(norm, DTensor) else norm

    def take_norm(self):
        """Return `norm`, a scalar tensor or None, and set it to None."""
        norm, self.norm = self.norm, None
        return norm

    def state_dict(self):
        return dict(super().state_dict(), loss_scaler=self.scaler.state_dict())

    def load_state_dict(self, state_dict):
        state_dict = dict(state_dict)
        scaler = state_dict.pop('loss_scaler', None)
        if scaler:  # empty if the run did not use fp16 so far
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)


@OPTIMIZERS.register_module()
class LARS(torch.optim.Optimizer):
    """SGD whose step is scaled to `trust` times the norm of the weight.

    As in MoCo v3 (You et al., arXiv 1708.03888; the official file is
    `utils.py`), for the linear probe. 1-D parameters have neither the scaling
    nor weight decay. The momentum sums steps before they are multiplied by
    the learning rate; the host's LARS sums them after, so the two differ
    when the rate changes.

    Args:
        params (Iterable): parameters or groups.
        lr, momentum, weight_decay (float): as in SGD.
        trust (float): norm of the step / norm of the weight, at lr 1.
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
        fast = kernels.cpu_multiplies_bf16()
        return torch.bfloat16 if fast else torch.float32
    if device == 'cuda' and not torch.cuda.is_bf16_supported(
            including_emulation=False):
        return torch.float16
    return torch.bfloat16
