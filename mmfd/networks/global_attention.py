"""One layer in which all tokens of a backbone's last map see each other."""
from mmengine.model import BaseModule
from mmpretrain.models.utils import MultiheadAttention
from torch import nn

from mmfd.registry import MODELS


@MODELS.register_module()
class GlobalAttention(BaseModule):
    """The global self-attention that HTC++ has after the last stage.

    Swin (arXiv 2103.14030, A2.2) names it and says no more. Here it is
    x + attention(norm(x)), and begins as x: the projection begins at 0. It
    has no bias of positions, so maps of any size fit.

    Args:
        channels (int): of the last map.
        num_heads (int): which divides `channels`.
    """

    def __init__(self, channels, num_heads, init_cfg=None):
        super().__init__(init_cfg)
        self.norm = nn.LayerNorm(channels)
        self.attn = MultiheadAttention(channels, num_heads)

    def init_weights(self):
        super().init_weights()
        nn.init.zeros_(self.attn.proj.weight)
        nn.init.zeros_(self.attn.proj.bias)

    def forward(self, maps):
        """A backbone's maps to a tuple of maps of the same shapes.

        Args:
            maps (Sequence[Tensor]): (B, C, h, w); only the last changes.
        """
        *others, last = maps
        x = last.flatten(2).transpose(1, 2)  # (B, L, C)
        x = x + self.attn(self.norm(x))
        return (*others, x.transpose(1, 2).unflatten(2, last.shape[-2:]))
