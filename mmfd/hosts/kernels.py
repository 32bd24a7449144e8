"""PyTorch's fused kernels: attention, softmax, products with packed weights.

Every function is named for what mmfd wants of it. Where PyTorch's own has
gone, it computes the same in a plain way, or Refused names the version.
"""
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from mmfd.hosts.lookup import find, needed

ATTENTION_ON_CPU = (
    'torch:ops.aten._scaled_dot_product_flash_attention_for_cpu')
ATTENTION_ON_CUDA = 'torch:ops.aten._scaled_dot_product_efficient_attention'
ROW = 8  # numbers to which that of CUDA wants the rows of a bias aligned


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
    fused = find(ATTENTION_ON_CPU)
    if fused is not None:
        return fused(q, k, v, attn_mask=bias, scale=scale)[0]
    exact = (x.to(bias.dtype) for x in (q, k, v))
    return F.scaled_dot_product_attention(
        *exact, attn_mask=bias, scale=scale).to(q.dtype)


def aligned_rows(bias):
    """A bias with rows that begin at multiples of `ROW`, as CUDA wants them.

    Args:
        bias (Tensor): (..., L), in which the last stride is 1.

    Returns:
        Tensor: (..., L + L'), of which the last L' columns are none of it.
    """
    return F.pad(bias, (0, -bias.shape[-1] % ROW))


def fuses_learnt_bias(device):
    """Whether fused attention has a gradient for a bias on a device."""
    return device.type != 'cpu' or _AsOnCuda.entered > 0


def attention_as_on_cuda():
    """Within it, attention is CUDA's fused kernel, wherever fake tensors are.

    On its own PyTorch asks the GPU which kernel it would take; without one it
    would take none that is fused.

    Raises:
        Refused: if PyTorch has no such kernel.
    """
    return _AsOnCuda(needed(ATTENTION_ON_CUDA))


class _AsOnCuda(TorchFunctionMode):
    entered = 0

    def __init__(self, fused):
        super().__init__()
        self.fused = fused

    def __enter__(self):
        _AsOnCuda.entered += 1
        return super().__enter__()

    def __exit__(self, *error):
        _AsOnCuda.entered -= 1
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            return self.attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def attend(self,
               q,
               k,
               v,
               attn_mask=None,
               dropout_p=0.,
               is_causal=False,
               scale=None):
        bias = attn_mask
        if bias is not None:
            columns, bias = bias.shape[-1], bias.to(q.dtype)
            if any(stride % ROW for stride in bias.stride()[:-1]):
                bias = aligned_rows(bias)
            bias = bias[..., :columns].expand(*q.shape[:3], columns)
        keeps = torch.is_grad_enabled() and q.requires_grad
        return self.fused(
            q, k, v, bias, keeps, dropout_p, is_causal, scale=scale)[0]


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


def cpu_multiplies_bf16():
    """Whether oneDNN has matrix products in bf16 on this CPU."""
    ask = find('torch:ops.mkldnn._is_mkldnn_bf16_supported')
    if ask is not None:
        return ask()
    ask = find('torch.cpu:get_capabilities')
    known = ask is not None and torch.backends.mkldnn.is_available()
    can = ask() if known else {}
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
