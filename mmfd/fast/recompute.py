"""What a backward computes once more, as that is cheap, and so is not kept.

A norm and a GELU keep their input for their own gradient. Their output, which
the next product needs for the gradient of its weights, follows from it: a
third of what a ViT's block would keep. Gradients are bit for bit the same.
"""
from contextlib import contextmanager

import torch
from torch.autograd.graph import saved_tensors_hooks

from mmfd.fast.layer_scale import scaled_linear
from mmfd.hosts import pytorch


@contextmanager
def not_kept(tensor, make):
    """Within it no operation keeps `tensor`, in any shape, for its backward.

    Where another one decides what is kept, as activation checkpointing and a
    compiler do, it is left to that.

    Args:
        tensor (Tensor): contiguous, with a storage of its own.
        make (callable): gives it once more.
    """
    if (not torch.is_grad_enabled() or torch.compiler.is_compiling()
            or _decided_elsewhere()):
        yield
        return
    whose = _values(tensor)

    def pack(saved):
        same = saved.is_contiguous() and _values(saved) == whose
        return saved.shape if same else saved

    def unpack(packed):
        return packed if torch.is_tensor(packed) else make().view(packed)

    with saved_tensors_hooks(pack, unpack):
        yield


def _values(tensor):
    """What two contiguous tensors of the same numbers agree in."""
    return (pytorch.storage_of(tensor), pytorch.version_of(tensor),
            tensor.dtype, tensor.numel())


def _decided_elsewhere():
    """Whether hooks that are not these see what is kept."""
    hooks = pytorch.saved_tensors_hooks_in_force()
    return hooks and getattr(hooks[0], '__module__', None) != __name__


def normed(norm, x, branch):
    """branch(norm(x)), which does not keep what the norm gives.

    Args:
        norm (nn.LayerNorm): of the tokens.
        x (Tensor): (B, L, C).
        branch (callable): to which it is in autocast's dtype.
    """
    y, device, kept = norm(x), x.device.type, x.detach()
    if torch.is_autocast_enabled(device):
        y = y.to(torch.get_autocast_dtype(device))
    dtype = y.dtype
    with not_kept(y, lambda: norm(kept).to(dtype)):
        return branch(y)


def feed_forward(ffn, x, gamma=None):
    """gamma times the host's `FFN`, which does not keep what its GELU gives.

    Args:
        ffn (FFN): mmcv's, of two products.
        x (Tensor): (B, L, C).
        gamma (Tensor): layer scale, (C, ). None is 1.
    """
    (first, act, dropout), second, last = ffn.layers
    if dropout.p and dropout.training:  # what it drops would be drawn anew
        return ffn(x) if gamma is None else gamma * ffn(x)
    hidden = first(x)
    active, kept = act(hidden), hidden.detach()
    with not_kept(active, lambda: act(kept)):
        x = scaled_linear(second, active, gamma)
    return ffn.dropout_layer(ffn.gamma2(last(x)))
