"""Attention with a bias that is learnt, fused forward and backward."""
import torch
import torch.nn.functional as F

from mmfd.layer_scale import scaled_linear

CHUNK = 2**20  # scores at a time in the backward on a CPU: in its cache


def attention(q, k, v, bias=None, scale=None):
    """softmax(scale q k^T + bias) v, without keeping the scores.

    Where the bias needs no gradient, and on GPUs, this is PyTorch's fused
    attention. On a CPU that leaves its fused path for a bias that needs one;
    `Biased` is in its place.

    Args:
        q, k, v (Tensor): (B, H, L, D).
        bias (Tensor): (n, H, L, L), n a divisor of B; image or window i gets
            the i % n-th.
        scale (float): None is D ** -0.5.
    """
    scale = q.shape[-1]**-0.5 if scale is None else scale
    if bias is None:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    learnt = torch.is_grad_enabled() and bias.requires_grad
    if learnt and q.device.type == 'cpu':
        return Biased.apply(q, k, v, bias, scale)
    bias = bias.to(q.dtype)
    if len(bias) > 1:
        bias = bias.repeat(len(q) // len(bias), 1, 1, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


class Biased(torch.autograd.Function):
    """Attention on a CPU that gives the bias its gradient.

    The forward is PyTorch's fused kernel, with the bias in fp32 whatever q is
    in. The backward computes the scores again, a few images at a time, so
    they are never in memory whole, and adds up the gradient of the bias in
    fp32.
    """

    @staticmethod
    def forward(ctx, q, k, v, bias, scale):
        exact = bias.to(torch.promote_types(q.dtype, torch.float32))
        ctx.save_for_backward(q, k, v, exact)
        ctx.scale, ctx.dtype = scale, bias.dtype
        n = len(bias)
        outs = [
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                q[i::n],
                k[i::n],
                v[i::n],
                attn_mask=exact[i:i + 1],
                scale=scale)[0] for i in range(n)
        ]
        return outs[0] if n == 1 else torch.stack(outs, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx, grad):
        q, k, v, bias = ctx.saved_tensors
        n, heads, length, _ = bias.shape
        grads = [_like_tokens(tensor) for tensor in (q, k, v)]
        grad_bias = torch.zeros_like(bias)
        images = max(1, CHUNK // (heads * length**2))
        if torch.compiler.is_compiling():  # for any number of images
            images = len(q)
        for i in range(n):
            own = [tensor[i::n] for tensor in (q, k, v, grad, *grads)]
            for parts in zip(*(tensor.split(images) for tensor in own)):
                _backward(bias[i], grad_bias[i], ctx.scale, *parts)
        return (*grads, grad_bias.to(ctx.dtype), None)


def _like_tokens(tensor):
    """(B, H, L, D) that is (B, L, H, D) in memory, as q, k and v are."""
    return torch.empty_like(
        tensor.transpose(1, 2),
        memory_format=torch.contiguous_format).transpose(1, 2)


def _backward(bias, grad_bias, scale, q, k, v, grad, grad_q, grad_k, grad_v):
    """Fill the gradients of some images and add to that of their bias."""
    scores = torch.add(bias, (q @ k.mT).to(bias), alpha=scale)  # in fp32
    weights = torch.softmax(scores, -1)
    grad_v.copy_(weights.to(v.dtype).mT @ grad)
    grad_scores = torch._softmax_backward_data((grad @ v.mT).to(weights),
                                               weights, -1, weights.dtype)
    grad_bias += grad_scores.sum(0)
    grad_scores = grad_scores.mul_(scale).to(q.dtype)
    grad_q.copy_(grad_scores @ k)
    grad_k.copy_(grad_scores.mT @ q)


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
    q, k, v = heads(qkv, attn.num_heads)
    x = attention(q, k, v, bias, attn.scale)
    x = scaled_linear(attn.proj, x.transpose(1, 2).flatten(2), gamma)
    return attn.proj_drop(x)


def q_v_bias(attn):
    """The bias of the three, of which the keys have none."""
    return torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])


def heads(qkv, num_heads):
    """(B, L, 3 H D) to q, k and v, (B, H, L, D)."""
    return qkv.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
