"""The students' transformer blocks: less computed, and less kept.

Nothing is computed for a branch that drop path drops (`drop_path`), unless a
whole block is compiled, whose shapes are then `fixed`. Outputs of norms and
GELUs are computed again in the backward (`recompute`). Attention scores are
never kept (`attention`). Results are those of the formulas in the docstrings.
The blocks take over the parts of the host's blocks under the host's names, so
their weights have the host's names too.
"""
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmfd.fast import attention
from mmfd.fast.cosine_attention import CosineAttention
from mmfd.fast.drop_path import residual, weights
from mmfd.fast.recompute import feed_forward, normed


class ViTBlock(nn.Module):
    """A pre-norm block of BEiT's ViT, with layer scale.

    x + drop_path(gamma_1 attn(ln1(x))), and so with gamma_2, ffn and ln2.

    Args:
        host (BEiTTransformerEncoderLayer): the host's block.
        with_cp (bool): compute the block again in the backward instead of
            keeping its activations.
    """
    branches_to_compile = 'attention_branch', 'ffn_branch'
    fixed = False

    def __init__(self, host, with_cp):
        super().__init__()
        self.gamma_1, self.gamma_2 = host.gamma_1, host.gamma_2
        self.ln1, self.attn = host.ln1, host.attn
        self.ln2, self.ffn = host.ln2, host.ffn
        self.drop_path = host.drop_path
        self.with_cp = with_cp

    def forward(self, x, bias=None, attend=attention.attend):
        """Tokens (B, L, C) to tokens.

        Args:
            bias (Tensor): relative position bias of all blocks, (H, L, L).
                None takes that of the block's own table, if it has one.
            attend (callable): `attend(attn, x, bias, gamma)` to tokens.
        """
        drawn = weights(self.drop_path, x) if self.fixed else (None, None)
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(
                self.branches, x, drawn, bias, attend, use_reentrant=False)
        return self.branches(x, drawn, bias, attend)

    def branches(self, x, drawn, bias, attend):
        x = residual(x, lambda x: self.attention_branch(x, bias, attend),
                     self.drop_path, drawn[0])
        return residual(x, self.ffn_branch, self.drop_path, drawn[1])

    def attention_branch(self, x, bias, attend):
        return normed(self.ln1, x,
                      lambda x: attend(self.attn, x, bias, self.gamma_1))

    def ffn_branch(self, x):
        return normed(self.ln2, x,
                      lambda x: feed_forward(self.ffn, x, self.gamma_2))


class SwinBlock(nn.Module):
    """A post-norm block of Swin V2, as the official code has it.

    x + drop_path(norm1(attn(x))), and so with norm2 and ffn. The host drops
    before the norm, which undoes it: a branch that stays loses its factor
    1 / (1 - rate), and one that is dropped gives the norm's bias, not zero.

    Args:
        host (SwinBlockV2): the host's block.
        trained_window (int): as of `CosineAttention`.
    """
    # To compile the cuts into windows for any number of images does not end.
    branches_to_compile = ('ffn_branch', )

    def __init__(self, host, trained_window):
        super().__init__()
        self.drop_path = host.attn.drop
        host.attn.drop = host.ffn.dropout_layer = nn.Identity()
        host.attn.w_msa = CosineAttention(host.attn.w_msa, trained_window)
        self.shifted = host.attn.shift_size > 0
        self.attn, self.norm1 = host.attn, host.norm1
        self.ffn, self.norm2 = host.ffn, host.norm2
        self.norm3 = host.norm3 if host.extra_norm else nn.Identity()
        self.with_cp = host.with_cp

    def set_window(self, side):
        """Attend in windows of another side, in tokens."""
        self.attn.window_size = side
        self.attn.w_msa.window_size = (side, side)
        self.attn.shift_size = side // 2 if self.shifted else 0

    def forward(self, x, hw_shape):
        """Tokens (B, L, C) of an (h, w) grid to tokens."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(self.branches, x, hw_shape, use_reentrant=False)
        return self.branches(x, hw_shape)

    def branches(self, x, hw_shape):
        x = residual(x, lambda x: self.norm1(self.attn(x, hw_shape)),
                     self.drop_path)
        return self.norm3(residual(x, self.ffn_branch, self.drop_path))

    def ffn_branch(self, x):
        return self.norm2(feed_forward(self.ffn, x))
