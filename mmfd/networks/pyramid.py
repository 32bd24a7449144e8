"""One map of a plain ViT to the maps of several strides that detectors read.
"""
from functools import partial

from mmengine.model import BaseModule
from mmpretrain.models.utils import LayerNorm2d
from torch import nn

from mmfd.registry import MODELS

Norm = partial(LayerNorm2d, eps=1e-6)


@MODELS.register_module()
class SimplePyramid(BaseModule):
    """The simple feature pyramid of ViTDet (Li et al., arXiv 2203.16527).

    Sec. 3: no lateral and top-down paths; the last map alone is made larger
    by transposed convolutions and smaller by pooling.

    Args:
        in_channels (int): of the backbone's last map.
        out_channels (int): of all levels.
        scales (Sequence[float]): side of every level over that of the map,
            of 4, 2, 1 and 0.5: of a map of stride 16, strides 4 to 32.
        num_outs (int): further levels are halved by taking every second
            point, as the RPN reads them.
    """

    def __init__(self,
                 in_channels,
                 out_channels=256,
                 scales=(4, 2, 1, 0.5),
                 num_outs=5,
                 init_cfg=None):
        super().__init__(init_cfg)
        self.levels = nn.ModuleList(
            _level(in_channels, out_channels, scale) for scale in scales)
        self.halve = nn.MaxPool2d(1, stride=2)
        self.num_outs = num_outs

    def forward(self, maps):
        """Maps (B, C, h, w), of which the last counts, to a tuple."""
        outs = [level(maps[-1]) for level in self.levels]
        while len(outs) < self.num_outs:
            outs.append(self.halve(outs[-1]))
        return tuple(outs)


def _level(channels, out_channels, scale):
    half, quarter = channels // 2, channels // 4
    resize, left = {
        4: ([
            nn.ConvTranspose2d(channels, half, 2, stride=2),
            Norm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2)
        ], quarter),
        2: ([nn.ConvTranspose2d(channels, half, 2, stride=2)], half),
        1: ([], channels),
        0.5: ([nn.MaxPool2d(2)], channels),
    }[scale]
    return nn.Sequential(
        *resize, nn.Conv2d(left, out_channels, 1, bias=False),
        Norm(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        Norm(out_channels))
