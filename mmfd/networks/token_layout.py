"""How the tokens of a network lie: what is before its map, and the grid."""
from math import isqrt

from mmfd.errors import Refused
from mmfd.hosts import openmmlab


class Features(tuple):
    """The features of a backbone, with what is known of their layout.

    Attributes:
        prefix (int | None): how many tokens are before the map, as the
            network says; None if it does not.
        registers (int | None): how many of those are registers, the last.
        image (tuple[int]): (H, W) in pixels of what it was given.
    """

    def __new__(cls, feats, backbone, image):
        self = super().__new__(cls, feats)
        self.prefix = openmmlab.prefix_tokens(backbone)
        self.registers = self.prefix and openmmlab.register_tokens(backbone)
        self.image = tuple(image)
        if openmmlab.is_channels_last(backbone) or (
                feats[-1].ndim == 4
                and looks_channels_last(feats[-1].shape, self.image)):
            raise Refused(
                f'{type(backbone).__name__} gives maps (B, h, w, C), here '
                f'{tuple(feats[-1].shape)}, and (B, C, h, w) is wanted: take '
                "mmpretrain's network in its place, whose weights "
                'tools/convert.py writes, or wrap it in one that permutes its '
                'maps')
        return self


def looks_channels_last(shape, image):
    """Whether a map has the proportions of the image as (B, h, w, C) alone."""
    _, first, second, last = shape
    height, width = image
    return (first * width == second * height
            and second * width != last * height)


def grid_of(count, image):
    """(h, w) of so many patches, in the proportions of an image (H, W).

    None if there is no such grid, as where patches stick out of the image.
    """
    height, width = image
    h = isqrt(count * height // width)
    w = count // h if h else 0
    return (h, w) if h * w == count and h * width == w * height else None
