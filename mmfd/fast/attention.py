"""Attention with a learnt bias, fused, without keeping the scores."""
from functools import partial

import torch
import torch.nn.functional as F

from mmfd.fast.layer_scale import scaled_linear
from mmfd.hosts import kernels

# How many scores the backward on a CPU computes at a time: they fit its cache
SCORES_AT_ONCE = 2**21


def attention(qkv, bias=None, scale=None):
    """softmax(scale q k^T + bias) v.

    PyTorch's fused attention; but on a CPU that is not fused where the bias
    needs a gradient, so `BiasedAttention` replaces it there.

    Args:
        qkv (Tensor): (B, L, 3, H, D).
        bias (Tensor): (n, H, L, L), where n divides B; image or window i
            takes the i % n-th.
        scale (float): None is D ** -0.5.

    Returns:
        Tensor: (B, L, H D).
    """
    scale = qkv.shape[-1]**-0.5 if scale is None else scale
    learnt = (
        torch.is_grad_enabled() and bias is not None and bias.requires_grad)
    if learnt and not kernels.fuses_learnt_bias(qkv.device):
        return biased_attention(qkv, bias, scale)
    q, k, v = _heads(qkv)
    if bias is not None:
        assert bias.stride(-1) == 1, 'for which CUDA has no fused attention'
        bias = bias.to(qkv.dtype)
        if len(bias) > 1:
            bias = _repeated(bias, len(q) // len(bias))
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    return x.transpose(1, 2).flatten(2)


def attend(attn, x, bias=None, gamma=None):
    """gamma * attn(x, bias), for the attention of BEiT's ViT.

    Args:
        attn (BEiTAttention): the host's.
        x (Tensor): (B, L, C).
        bias (Tensor): (H, L, L). None takes that of the table of `attn`, or 0
            where it has none.
        gamma (Tensor): layer scale, (C, ). None is 1.

    Returns:
        Tensor: (B, L, C).
    """
    if bias is None and attn.relative_position_bias_table is not None:
        bias = bias_of(attn)
    linear = qkv_bias(attn) if attn.bias == 'qv_bias' else attn.qkv.bias
    qkv = F.linear(x, attn.qkv.weight, linear)
    return _attended(attn, qkv, None if bias is None else bias[None], gamma)


def attend_windows(attn, x, mask=None):
    """attn(x, mask), for the window attention of Swin V1.

    Args:
        attn (WindowMSA): the host's.
        x (Tensor): (B n, L, C), the n windows of B images.
        mask (Tensor): (n, L, L), added to the scores; None is 0.

    Returns:
        Tensor: (B n, L, C).
    """
    bias = bias_of(attn)[None]
    if mask is not None:
        bias = bias + mask[:, None]
    return _attended(attn, attn.qkv(x), bias)


def qkv_bias(attn):
    """The bias of q, k and v, (3 C, ), from `q_bias` and `v_bias`; k has 0."""
    return torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])


def bias_of(attn):
    """The bias of all pairs of tokens from the table of `attn`, (H, L, L)."""
    return bias_of_pairs(attn.relative_position_bias_table,
                         attn.relative_position_index)


def bias_of_pairs(table, index):
    """The rows of a table that an index names, as fused attention takes them.

    The numbers of `table[index]`, whose last stride would not be 1. On a CPU
    it also takes a tenth of the time.

    Args:
        table (Tensor): (N, H).
        index (Tensor): (L, L), int.

    Returns:
        Tensor: (H, L, L), contiguous.
    """
    bias = table.t().index_select(1, index.flatten())
    return bias.unflatten(1, index.shape)


def offset_index(grid, device=None):
    """The number of the offset between every two tokens of a grid.

    Args:
        grid (tuple[int]): (h, w).

    Returns:
        Tensor: (h w, h w), int32, from 0 to (2 h - 1)(2 w - 1) - 1.
    """
    rows, columns = (
        torch.arange(side, dtype=torch.int32, device=device) for side in grid)
    rows, columns = (x[:, None] - x + len(x) - 1 for x in (rows, columns))
    index = (
        rows[:, None, :, None] * (2 * grid[1] - 1) + columns[None, :, None, :])
    return index.flatten(2).flatten(0, 1)


def _attended(attn, qkv, bias, gamma=None):
    """(B, L, 3 H D) to the output of `attn`, (B, L, C)."""
    x = attention(qkv.unflatten(2, (3, attn.num_heads, -1)), bias, attn.scale)
    return attn.proj_drop(scaled_linear(attn.proj, x, gamma))


def _repeated(bias, times):
    """`bias.repeat(times, 1, 1, 1)`, of aligned rows.

    Otherwise CUDA's kernel would have what is repeated copied once more.
    """
    repeated = kernels.aligned_rows(bias).repeat(times, 1, 1, 1)
    return repeated[..., :bias.shape[-1]]


def _heads(qkv):
    """(B, L, 3, H, D) to q, k and v, (B, H, L, D)."""
    return qkv.permute(2, 0, 3, 1, 4)


class BiasedAttention(torch.autograd.Function):
    """Attention on a CPU with a gradient for the bias; arguments as above.

    The forward is PyTorch's fused kernel, with the bias in fp32 whatever q is
    in. The backward computes the scores again, some images at a time in the
    same memory, and sums the gradient of the bias in fp32.
    """

    @staticmethod
    def forward(ctx, qkv, bias, scale):
        exact = bias.to(torch.promote_types(qkv.dtype, torch.float32))
        ctx.save_for_backward(qkv, exact)
        ctx.scale, ctx.dtype = scale, bias.dtype
        n = len(bias)
        outs = [
            kernels.attention_on_cpu(
                *_heads(qkv[i::n]), bias=exact[i:i + 1], scale=scale)
            for i in range(n)
        ]
        out = outs[0] if n == 1 else torch.stack(outs, 1).flatten(0, 1)
        return out.transpose(1, 2).flatten(2)

    @staticmethod
    def backward(ctx, grad):
        qkv, bias = ctx.saved_tensors
        n, heads, length, _ = bias.shape
        grad = grad.unflatten(2, (heads, -1))
        # one tensor: as three it would be stacked and copied
        grad_qkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        grad_bias = torch.zeros_like(bias)
        images = min(
            max(1, SCORES_AT_ONCE // (heads * length**2)),
            len(qkv) // n)
        exact = bias.new_empty(2, images, heads, length, length)
        rounded = exact
        if qkv.dtype != bias.dtype:  # one memory for both: first one, then two
            rounded = exact.new_empty(exact.shape[1:], dtype=qkv.dtype)
            rounded = rounded.expand_as(exact)
        for i in range(n):
            of_bias = [tensor[i::n] for tensor in (qkv, grad, grad_qkv)]
            for parts in zip(*(tensor.split(images) for tensor in of_bias)):
                part = slice(len(parts[0]))
                _backward(bias[i], grad_bias[i], ctx.scale, *parts,
                          exact[:, part], rounded[:, part])
        return grad_qkv, grad_bias.to(ctx.dtype), None


# Not for a compiler: in one graph with the rest its bf16 gradients were NaN.
biased_attention = torch.compiler.disable(BiasedAttention.apply)


def _backward(bias, grad_bias, scale, qkv, grad, grad_qkv, exact, rounded):
    """Fill the gradients of some images and add to that of their bias.

    Args:
        exact, rounded (Tensor): memory for the scores and for their
            gradients, (2, B, H, L, L), in the dtype of sums and in that of
            matrix products.
    """
    weights, scores = exact
    shape = grad.transpose(1, 2).shape
    q, k, v, grad = (
        x.transpose(1, 2).reshape(-1, *shape[2:])
        for x in (*qkv.unbind(2), grad))
    grad_q, grad_k, grad_v = _heads(grad_qkv)
    products = rounded.flatten(1, 2)

    torch.bmm(q, k.mT, out=products[0])
    weights.copy_(rounded[0])
    torch.add(bias, weights, alpha=scale, out=weights)
    torch.softmax(weights, -1, out=weights)
    rounded[0].copy_(weights)
    grad_v.copy_((products[0].mT @ grad).view(shape))

    torch.bmm(grad, v.mT, out=products[1])
    scores.copy_(rounded[1])
    kernels.softmax_backward_(scores, weights)
    grad_bias += scores.sum(0)
    rounded[1].copy_(scores)
    scaled = partial(torch.baddbmm, q, beta=0, alpha=scale)  # q for its shape
    grad_q.copy_(scaled(products[1], k).view(shape))
    grad_k.copy_(scaled(products[1].mT, q).view(shape))
