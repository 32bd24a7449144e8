"""The ViT student on some patches of its images; the others cost nothing."""
import torch

from mmfd.fast.attention import attend, bias_of
from mmfd.networks import any_size, image_size


def forward(vit, x, patches):
    """Normalised images (B, 3, H, W) to tokens (B, cls + n, C).

    They are those of a forward in which no token attends to a patch that is
    not among these.

    Args:
        vit (StudentViT): for images of its own size.
        patches (Tensor): indices of patches in row-major order, (n, ), the
            same for all images: so one bias serves all.
    """
    image_size.check_equal(x, vit.img_size[0])
    x, _ = any_size.embedded(vit, x)
    tokens = with_cls_tokens(patches, vit.num_extra_tokens)
    x = vit.drop_after_pos(x.index_select(1, tokens))
    among_these = AttentionAmong(vit, tokens)
    for layer in vit.layers:
        x = layer(x, attend=among_these)
    return vit.ln1(x) if vit.final_norm else x


def with_cls_tokens(patches, cls):
    """Indices of cls tokens and, behind them, of patches among all tokens.

    Args:
        patches (Tensor): indices of patches in their map, (..., n).
        cls (int): how many tokens are before the map.

    Returns:
        Tensor: (..., cls + n).
    """
    first = torch.arange(cls, device=patches.device)
    return torch.cat([first.expand(*patches.shape[:-1], cls), patches + cls],
                     -1)


class AttentionAmong:
    """Attention of some tokens to each other.

    Args:
        vit (StudentViT): whose tables of relative position bias are used.
        tokens (Tensor): indices of tokens, (n, ).
    """

    def __init__(self, vit, tokens):
        self.tokens = tokens
        self.shared = vit.rel_pos_bias and self.among(vit.rel_pos_bias())

    def among(self, bias):
        """A bias of all pairs (H, L, L) to that of pairs of these tokens."""
        return bias.index_select(1, self.tokens).index_select(2, self.tokens)

    def __call__(self, attn, x, _, gamma):
        """gamma * attn(x), as `GridAttention`."""
        bias = self.shared
        if attn.relative_position_bias_table is not None:
            bias = self.among(bias_of(attn))
        return attend(attn, x, bias, gamma)
