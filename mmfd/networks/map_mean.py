"""What a classifier sees of any network: the mean of its map."""
from mmengine.model import BaseModule
from torch import nn

from mmfd.registry import MODELS


@MODELS.register_module()
class MapMeanNeck(BaseModule):
    """The mean of a map, over which one more norm is learnt.

    Args:
        channels (int): of the network.
        before (int): tokens that it returns before its map.
    """

    def __init__(self, channels, before=0):
        super().__init__()
        self.before = before
        self.norm = nn.LayerNorm(channels)

    def forward(self, feats):
        """Tokens (B, before + h * w, C) or a map (B, C, h, w) -> ((B, C), )"""
        last = feats[-1]
        if last.ndim == 4:
            return (self.norm(last.mean((2, 3))), )
        return (self.norm(last[:, self.before:].mean(1)), )
