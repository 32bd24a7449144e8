"""What norms and GELUs give, computed again in the backward and not kept.

A norm and a GELU keep their input for their own gradient. The layer behind
them would keep their output as well, for the gradient of its weights. It
follows from the input, is cheap to compute again, and is a third of what a
ViT's block keeps in fp32. Gradients are the same bit for bit.
"""
from contextlib import contextmanager

import torch
from torch.autograd.graph import saved_tensors_hooks

from mmfd.fast.layer_scale import scaled_linear
from mmfd.hosts import pytorch


def normed(norm, x, branch):
    """branch(norm(x)), without keeping what the norm gives.

    Args:
        norm (nn.LayerNorm): of the tokens.
        x (Tensor): (B, L, C).
        branch (callable): takes the tokens in the dtype of autocast.
    """
    y, device, x = norm(x), x.device.type, x.detach()
    if torch.is_autocast_enabled(device):
        y = y.to(torch.get_autocast_dtype(device))
    dtype = y.dtype
    with recomputed(y, lambda: norm(x).to(dtype)):
        return branch(y)


def feed_forward(ffn, x, gamma=None):
    """gamma * ffn(x), without keeping what the GELU gives.

    Args:
        ffn (FFN): mmcv's, of two linear layers.
        x (Tensor): (B, L, C).
        gamma (Tensor): layer scale, (C, ). None is 1.
    """
    (first, act, dropout), second, last_dropout = ffn.layers
    if dropout.p and dropout.training:  # computed again it would drop others
        return ffn(x) if gamma is None else gamma * ffn(x)
    hidden = first(x)
    active, hidden = act(hidden), hidden.detach()
    with recomputed(active, lambda: act(hidden)):
        x = scaled_linear(second, active, gamma)
    return ffn.dropout_layer(ffn.gamma2(last_dropout(x)))


@contextmanager
def recomputed(tensor, make):
    """No operation within keeps `tensor` for its backward; `make` replaces it.

    A reshaped `tensor` is not kept either; a part of it or another layout is.
    Does nothing where something else decides what is kept: activation
    checkpointing or a compiler.

    Args:
        tensor (Tensor): contiguous, with a storage of its own.
        make (callable): computes the same tensor again.
    """
    if (not torch.is_grad_enabled() or torch.compiler.is_compiling()
            or _others_decide()):
        yield
        return
    identity = _identity(tensor)

    def pack(saved):
        same = saved.is_contiguous() and _identity(saved) == identity
        return saved.shape if same else saved

    def unpack(packed):
        return packed if torch.is_tensor(packed) else make().view(packed)

    with saved_tensors_hooks(pack, unpack):
        yield


def _identity(tensor):
    """Equal for two contiguous tensors that are the same numbers."""
    return (pytorch.storage_of(tensor), pytorch.version_of(tensor),
            tensor.dtype, tensor.numel())


def _others_decide():
    """Whether hooks other than those here see what is kept."""
    hooks = pytorch.saved_tensors_hooks_in_force()
    return hooks and getattr(hooks[0], '__module__', None) != __name__
