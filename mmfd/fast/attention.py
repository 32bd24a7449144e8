"""Attention with a bias that is learnt, fused forward and backward."""
from functools import partial

import torch
import torch.nn.functional as F

from mmfd.fast.layer_scale import scaled_linear
from mmfd.hosts import pytorch

CHUNK = 2**21  # scores at a time in the backward on a CPU: in its cache
LENGTHS = {torch.float16: torch.float32}  # of vectors, where not their dtype


def attention(qkv, bias=None, scale=None):
    """softmax(scale q k^T + bias) v, without keeping the scores.

    Where the bias needs no gradient, and on GPUs, this is PyTorch's fused
    attention. On a CPU that leaves its fused path for a bias that needs one;
    `Biased` is in its place.

    Args:
        qkv (Tensor): (B, L, 3, H, D).
        bias (Tensor): (n, H, L, L), n a divisor of B; image or window i gets
            the i % n-th.
        scale (float): None is D ** -0.5.

    Returns:
        Tensor: (B, L, H D).
    """
    scale = qkv.shape[-1]**-0.5 if scale is None else scale
    learnt = (
        torch.is_grad_enabled() and bias is not None and bias.requires_grad)
    if learnt and qkv.device.type == 'cpu':
        return biased(qkv, bias, scale)
    q, k, v = _heads(qkv)
    if bias is not None:
        bias = bias.to(qkv.dtype)
        if len(bias) > 1:
            bias = bias.repeat(len(q) // len(bias), 1, 1, 1)
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    return x.transpose(1, 2).flatten(2)


def _heads(qkv):
    """(B, L, 3, H, D) to q, k and v, (B, H, L, D)."""
    return qkv.permute(2, 0, 3, 1, 4)


class Biased(torch.autograd.Function):
    """Attention on a CPU that gives the bias its gradient.

    The forward is PyTorch's fused kernel, with the bias in fp32 whatever q is
    in. The backward computes the scores again, some images at a time in the
    same memory, and adds up the gradient of the bias in fp32.
    """

    @staticmethod
    def forward(ctx, qkv, bias, scale):
        exact = bias.to(torch.promote_types(qkv.dtype, torch.float32))
        ctx.save_for_backward(qkv, exact)
        ctx.scale, ctx.dtype = scale, bias.dtype
        n = len(bias)
        outs = [
            pytorch.attention_on_cpu(
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
        grad_qkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        grad_bias = torch.zeros_like(bias)
        images = min(max(1, CHUNK // (heads * length**2)), len(qkv) // n)
        exact = bias.new_empty(2, images, heads, length, length)
        rounded = exact
        if qkv.dtype != bias.dtype:  # one after the other in one place
            rounded = exact.new_empty(exact.shape[1:], dtype=qkv.dtype)
            rounded = rounded.expand_as(exact)
        for i in range(n):
            own = [tensor[i::n] for tensor in (qkv, grad, grad_qkv)]
            for parts in zip(*(tensor.split(images) for tensor in own)):
                part = slice(len(parts[0]))
                _backward(bias[i], grad_bias[i], ctx.scale, *parts,
                          exact[:, part], rounded[:, part])
        return grad_qkv, grad_bias.to(ctx.dtype), None


# not for a compiler: in one graph with the rest its bf16 gradients were NaN
biased = torch.compiler.disable(Biased.apply)


def _backward(bias, grad_bias, scale, qkv, grad, grad_qkv, exact, rounded):
    """Fill the gradients of some images and add to that of their bias.

    Args:
        exact, rounded (Tensor): memory for the scores and their gradients,
            (2, B, H, L, L), as sums want them and as products do.
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
    pytorch.softmax_backward_(scores, weights)
    grad_bias += scores.sum(0)
    rounded[1].copy_(scores)
    scaled = partial(torch.baddbmm, q, beta=0, alpha=scale)  # q for its shape
    grad_q.copy_(scaled(products[1], k).view(shape))
    grad_k.copy_(scaled(products[1].mT, q).view(shape))


class Directions(torch.autograd.Function):
    """(B, L, 3, H, D) with q of length `scale`, (H, ), and k of length 1.

    For attention by cosine, as in Swin V2. The gradient in closed form: that
    of a direction has no part along it. What is no longer than 1e-12, as the
    keys of padding are, has no direction and gives 0. Lengths of fp16 are
    fp32, since squares of fp16 leave its range.
    """

    @staticmethod
    def forward(ctx, qkv, scale):
        qk = qkv[:, :, :2]
        own = torch.linalg.vector_norm(
            qk, dim=-1, keepdim=True, dtype=LENGTHS.get(qk.dtype))
        own.masked_fill_(own <= 1e-12, torch.inf)
        ctx.save_for_backward(qkv, own, scale)
        out = torch.empty_like(qkv)
        torch.mul(qk, _factors(own, scale), out=out[:, :, :2])
        out[:, :, 2] = qkv[:, :, 2]
        return out

    @staticmethod
    def backward(ctx, grad):
        qkv, own, scale = ctx.saved_tensors
        qk, grad_qk = qkv[:, :, :2], grad[:, :, :2]
        factors = _factors(own, scale)
        along = torch.linalg.vecdot(qk, grad_qk)[..., None] / own
        out = torch.empty_like(qkv)
        torch.mul(grad_qk, factors, out=out[:, :, :2])
        out[:, :, :2].addcmul_(qk, along * factors / own, value=-1)
        out[:, :, 2] = grad[:, :, 2]
        return out, along[:, :, 0, :, 0].sum((0, 1), dtype=scale.dtype)


def _factors(own, scale):
    """From vectors' own lengths (B, L, 2, H, 1) to those wanted."""
    wanted = torch.stack([scale, torch.ones_like(scale)])[..., None]
    return (wanted / own).to(own)


def attend(attn, x, bias=None, gamma=None):
    """gamma times the host's `BEiTAttention` of tokens.

    Args:
        attn (BEiTAttention): whose weights.
        x (Tensor): (B, L, C).
        bias (Tensor): (H, L, L). None is that of the table of `attn`, or 0
            where it has none.
        gamma (Tensor): layer scale, (C, ). None is 1.
    """
    if bias is None and attn.relative_position_bias_table is not None:
        bias = _bias_of(attn)
    linear = q_v_bias(attn) if attn.bias == 'qv_bias' else attn.qkv.bias
    qkv = F.linear(x, attn.qkv.weight, linear)
    return _attended(attn, qkv, None if bias is None else bias[None], gamma)


def attend_windows(attn, x, mask=None):
    """The host's `WindowMSA` of windows.

    Args:
        attn (WindowMSA): whose weights.
        x (Tensor): (B n, L, C).
        mask (Tensor): (n, L, L), of the n windows of an image; None is 0.
    """
    bias = _bias_of(attn)[None]
    if mask is not None:
        bias = bias + mask[:, None]
    return _attended(attn, attn.qkv(x), bias)


def _bias_of(attn):
    """What the table of `attn` says of all pairs of tokens, (H, L, L)."""
    table = attn.relative_position_bias_table
    return table[attn.relative_position_index].permute(2, 0, 1)


def _attended(attn, qkv, bias, gamma=None):
    """(B, L, 3 H D) to what `attn` gives, (B, L, C)."""
    x = attention(qkv.unflatten(2, (3, attn.num_heads, -1)), bias, attn.scale)
    return attn.proj_drop(scaled_linear(attn.proj, x, gamma))


def q_v_bias(attn):
    """The bias of the three, of which the keys have none."""
    return torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])
