"""Maps of several strides for detectors, from one map of a plain ViT."""
from functools import partial

from mmengine.model import BaseModule
from mmpretrain.models.utils import LayerNorm2d
from torch import nn

from mmfd.errors import Refused
from mmfd.registry import MODELS

MapNorm = partial(LayerNorm2d, eps=1e-6)  # over the channels of a map


@MODELS.register_module()
class SimplePyramid(BaseModule):
    """The simple feature pyramid of ViTDet (Li et al., arXiv 2203.16527).

    Sec. 3: no lateral and no top-down paths. Transposed convolutions enlarge
    the backbone's last map, pooling shrinks it.

    Args:
        in_channels (int): of the backbone's last map.
        out_channels (int): of every level.
        scales (Sequence[float]): side of each level, relative to that of the
            map: some of 4, 2, 1 and 0.5. They make strides 4 to 32 of a map
            of stride 16.
        num_outs (int): how many levels there are. Those beyond `scales` take
            every second point of the level before, for an RPN.

    Raises:
        Refused: for another scale.
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
        """A backbone's maps to a tuple of levels (B, `out_channels`, h, w).

        Args:
            maps (Sequence[Tensor]): (B, C, h, w); only the last is used.
        """
        outs = [level(maps[-1]) for level in self.levels]
        while len(outs) < self.num_outs:
            outs.append(self.halve(outs[-1]))
        return tuple(outs)


def _level(channels, out_channels, scale):
    """Layers that resize a map by `scale` and bring it to `out_channels`."""
    half, quarter = channels // 2, channels // 4
    resizing = {
        4: ([
            nn.ConvTranspose2d(channels, half, 2, stride=2),
            MapNorm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2)
        ], quarter),
        2: ([nn.ConvTranspose2d(channels, half, 2, stride=2)], half),
        1: ([], channels),
        0.5: ([nn.MaxPool2d(2)], channels),
    }
    if scale not in resizing:
        raise Refused(f'neck.scales has {scale}: it may have {[*resizing]}')
    resize, channels = resizing[scale]
    return nn.Sequential(
        *resize, nn.Conv2d(channels, out_channels, 1, bias=False),
        MapNorm(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        MapNorm(out_channels))
