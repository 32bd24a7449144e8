"""What PyTorch does not promise to keep: each private call once.

Every function is named for what mmfd wants of it, and has a plain way to the
same numbers where PyTorch's own has gone.
"""
from contextlib import nullcontext

import torch
import torch.nn.functional as F

from mmfd.hosts.lookup import find


def attention_on_cpu(q, k, v, bias, scale):
    """softmax(scale q k^T + bias) v by the fused kernel of a CPU.

    The public function refuses a bias in fp32 for bf16 queries, and does not
    take its fused kernel where a bias needs a gradient. The plain way is that
    function in the dtype of the bias.

    Args:
        q, k, v (Tensor): (B, H, L, D), whose gradients are not recorded.
        bias (Tensor): (1, H, L, L), fp32 or as q.
        scale (float): of the products.

    Returns:
        Tensor: (B, H, L, D), as q.
    """
    fused = find('torch:ops.aten._scaled_dot_product_flash_attention_for_cpu')
    if fused is not None:
        return fused(q, k, v, attn_mask=bias, scale=scale)[0]
    exact = (x.to(bias.dtype) for x in (q, k, v))
    return F.scaled_dot_product_attention(
        *exact, attn_mask=bias, scale=scale).to(q.dtype)


def softmax_backward_(grad, weights):
    """Turn the gradient of a softmax into that of its input, in place.

    Args:
        grad, weights (Tensor): (..., L) of one dtype; `weights` is what the
            softmax gave, over the last dimension.
    """
    fused = find('torch:_softmax_backward_data')
    if fused is not None:
        fused(grad, weights, -1, grad.dtype, grad_input=grad)
    else:
        grad.sub_((grad * weights).sum(-1, keepdim=True)).mul_(weights)


def version_of(tensor):
    """How often a tensor was written to in place.

    Where PyTorch does not say, an object that equals nothing: the tensor may
    have changed since.
    """
    try:
        return tensor._version
    except AttributeError:
        return object()


def storage_of(tensor):
    """Which memory a tensor is a view of: the same for all of its views.

    Where PyTorch does not say, an object that equals nothing.
    """
    try:
        return tensor.untyped_storage()._cdata
    except AttributeError:
        return object()


def saved_tensors_hooks_in_force():
    """The (pack, unpack) that autograd now gives what it saves to, or None.

    Where PyTorch does not say, (None, None): there may be some.
    """
    innermost = find('torch:_C._autograd._top_saved_tensors_default_hooks')
    return (None, None) if innermost is None else innermost(False)


def cpu_multiplies_bf16():
    """Whether oneDNN has matrix products in bf16 on this CPU."""
    ask = find('torch:ops.mkldnn._is_mkldnn_bf16_supported')
    if ask is not None:
        return ask()
    ask = find('torch.cpu:get_capabilities')
    can = ask(
    ) if ask is not None and torch.backends.mkldnn.is_available() else {}
    return can.get('bf16', False) or all(  # of an ARM; of an x86
        can.get(f'avx512_{part}', False) for part in ('f', 'bw', 'vl', 'dq'))


def can_pack(dtype):
    """Whether oneDNN multiplies by packed weights of a dtype on this CPU."""
    if not torch.backends.mkldnn.is_available() or None in (
            find('torch:ops.mkldnn._reorder_linear_weight'),
            find('torch:ops.mkldnn._linear_pointwise')):
        return False
    return dtype is torch.float32 or (dtype is torch.bfloat16
                                      and cpu_multiplies_bf16())


def pack(weight):
    """A copy of the weight of a linear layer in oneDNN's own layout.

    Args:
        weight (Tensor): (C', C) on the CPU, of a dtype that `can_pack`.
    """
    return find('torch:ops.mkldnn._reorder_linear_weight')(weight)


def packed_linear(x, packed, bias, gelu):
    """`F.linear` by a weight that `pack` gave, and a GELU of it if asked for.

    Args:
        x (Tensor): (..., C).
        packed (Tensor): (C', C).
        bias (Tensor): (C', ), or None.
        gelu (bool): the exact one.
    """
    return find('torch:ops.mkldnn._linear_pointwise')(
        x, packed, bias, 'gelu' if gelu else 'none', [], 'none')


def compiled_anew():
    """Within it the compiler uses nothing that it has stored.

    Where PyTorch has no such switch, it may.
    """
    patch = find('torch._inductor.config:patch')
    return nullcontext() if patch is None else patch(force_disable_caches=True)


def infinite_gradients(optimizer):
    """What a GradScaler tells a fused optimizer in its step, None elsewhere.

    Returns:
        Tensor: (), not 0 if a gradient is infinite or no number, and the step
        changes nothing.
    """
    return getattr(optimizer, 'found_inf', None)
