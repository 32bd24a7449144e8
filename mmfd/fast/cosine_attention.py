"""Swin V2's window attention: by cosine, with a bias by log-CPB."""
from math import log

import torch
import torch.nn.functional as F
from torch import nn

from mmfd.errors import Refused
from mmfd.fast import attention

# The dtype of lengths, where it is not that of the vectors: squares of fp16
# leave its range.
LENGTHS = {torch.float16: torch.float32}


class CosineAttention(nn.Module):
    """The host's `WindowMSAV2`, of its parts and by its names.

    Args:
        host (WindowMSAV2): whose parts it takes over.
        trained_window (int): side in tokens of the windows whose coordinates
            its CPB network learns. Another `window_size` may be set later: it
            is in the same units.

    Raises:
        Refused: if the host's has dropout of scores, which fused attention
            does not offer.
    """

    def __init__(self, host, trained_window):
        super().__init__()
        if host.attn_drop.p:
            raise Refused(f'attn_drop={host.attn_drop.p}: StudentSwin has '
                          'attn_drop=0.; take it out of stage_cfgs')
        self.embed_dims, self.num_heads = host.embed_dims, host.num_heads
        self.window_size = self.window_of_tables = host.window_size
        self.trained_window = trained_window
        self.logit_scale = host.logit_scale
        self.q_bias, self.v_bias = host.q_bias, host.v_bias
        for name, table in host.named_buffers():
            self.register_buffer(name, table)
        self.cpb_mlp, self.qkv, self.proj = host.cpb_mlp, host.qkv, host.proj
        self.proj_drop = host.proj_drop

    def bias(self):
        """The bias of all pairs of a window's tokens, (H, L, L)."""
        coordinates = self.relative_coords_table
        index = self.relative_position_index
        if self.window_size != self.window_of_tables:
            trained, device = (self.trained_window, ) * 2, coordinates.device
            coordinates = log_coordinates(self.window_size, trained, device)
            index = attention.offset_index(self.window_size, device)
        table = 16 * self.cpb_mlp(coordinates).sigmoid()
        return attention.bias_of_pairs(table.flatten(0, -2), index)

    def forward(self, x, mask=None):
        """The n windows of B images, (B n, L, C), to the same shape.

        Args:
            mask (Tensor): (n, L, L), added to the scores; None is 0.
        """
        biased = self.q_bias is not None
        qkv = F.linear(x, self.qkv.weight,
                       attention.qkv_bias(self) if biased else None)
        qkv = qkv.unflatten(2, (3, self.num_heads, -1))
        scale = self.logit_scale.clamp(max=log(100)).exp()
        bias = self.bias()[None]
        if mask is not None:
            bias = bias + mask[:, None]
        qkv = NormalizeQK.apply(qkv, scale.flatten())
        return self.proj_drop(self.proj(attention.attention(qkv, bias, 1.)))


def log_coordinates(window, trained, device=None):
    """Swin V2's relative coordinates, (1, 2 h - 1, 2 w - 1, 2).

    Sec. 3.3: offsets are counted in windows of the training, of which 8 is the
    farthest, and spaced by their logarithm.

    Args:
        window (tuple[int]): (h, w) in tokens.
        trained (tuple[int]): that of the training.
    """
    axes = [
        torch.arange(1 - side, side, device=device) * 8 / max(1, scale - 1)
        for side, scale in zip(window, trained)
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing='ij'), -1)[None]
    return grid.sign() * torch.log2(grid.abs() + 1) / 3


class NormalizeQK(torch.autograd.Function):
    """(B, L, 3, H, D) with q of length `scale`, (H, ), and k of length 1.

    Its gradient in closed form keeps no normalised vectors: the gradient of a
    direction has no part along it. A vector no longer than 1e-12, as the keys
    of padding are, has no direction and becomes 0.
    """

    @staticmethod
    def forward(ctx, qkv, scale):
        qk = qkv[:, :, :2]
        length = torch.linalg.vector_norm(
            qk, dim=-1, keepdim=True, dtype=LENGTHS.get(qk.dtype))
        length.masked_fill_(length <= 1e-12, torch.inf)
        ctx.save_for_backward(qkv, length, scale)
        out = torch.empty_like(qkv)
        torch.mul(qk, _factors(length, scale), out=out[:, :, :2])
        out[:, :, 2] = qkv[:, :, 2]
        return out

    @staticmethod
    def backward(ctx, grad):
        qkv, length, scale = ctx.saved_tensors
        qk, grad_qk = qkv[:, :, :2], grad[:, :, :2]
        factors = _factors(length, scale)
        along = torch.linalg.vecdot(qk, grad_qk)[..., None] / length
        out = torch.empty_like(qkv)
        torch.mul(grad_qk, factors, out=out[:, :, :2])
        out[:, :, :2].addcmul_(qk, along * factors / length, value=-1)
        out[:, :, 2] = grad[:, :, 2]
        return out, along[:, :, 0, :, 0].sum((0, 1), dtype=scale.dtype)


def _factors(length, scale):
    """From lengths (B, L, 2, H, 1) of q and k to those wanted."""
    wanted = torch.stack([scale, torch.ones_like(scale)])[..., None]
    return (wanted / length).to(length)
