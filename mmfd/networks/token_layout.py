"""How the tokens of a network lie: what is before its map, and the grid.

The network says it; nothing is guessed from a number of tokens.
"""
from math import isqrt
from typing import NamedTuple

import torch

from mmfd.errors import Refused, described
from mmfd.hosts import openmmlab
from mmfd.networks.library_network import LibraryNetwork


class Layout(NamedTuple):
    """What a network says of the tokens or maps that it returns.

    Attributes:
        prefix: tokens before the map, registers among them; None if it does
            not say.
        registers: how many of those are registers, the last.
        channels_last: whether its maps are (B, h, w, C).
        patch: pixels between tokens; None if it does not say.
    """
    prefix: int | None
    registers: int = 0
    channels_last: bool = False
    patch: int | None = None


def layout_of(network):
    """The `Layout` of what a backbone returns."""
    if isinstance(network, LibraryNetwork):  # leaves registers out itself
        return Layout(network.facts.cls, patch=network.facts.patch)
    return Layout(*openmmlab.layout(network))


def layout_inside(network):
    """The `Layout` of what the blocks of a backbone return."""
    if isinstance(network, LibraryNetwork):
        facts = network.facts
        return Layout(facts.cls + facts.registers, facts.registers,
                      network.channels_last)
    return Layout(*openmmlab.layout(network))


class Features(tuple):
    """The features of a backbone, of which it is known how they lie.

    Each is tokens (B, cls + h * w, C), without registers, or a map
    (B, C, h, w); what is said below is of the last.

    Attributes:
        cls (int | None): how many tokens are before the map; None if the
            network does not say.
        grid (tuple | None): (h, w) of the map; None if that is not known.
    """

    def __new__(cls, feats, prefix, grid=None):
        self = super().__new__(cls, feats)
        self.cls, self.grid = prefix, grid
        if feats[-1].ndim == 4:
            self.cls, self.grid = 0, tuple(feats[-1].shape[2:])
        return self


def features_of(network, feats, image):
    """The `Features` in what a backbone returned for images.

    Args:
        network (nn.Module): the backbone.
        feats (tuple): tokens (B, L, C) or maps.
        image (tuple[int]): (H, W) of the images.

    Raises:
        Refused: for what are no features, and for no layer; for maps that
            look like (B, h, w, C) of a network that does not say so.
    """
    if not isinstance(feats, (tuple, list)) or not all(
            isinstance(each, torch.Tensor) for each in feats):
        raise Refused(f'{type(network).__name__} gives {described(feats)}, '
                      'and a tuple of tokens (B, L, C) or maps (B, C, h, w) '
                      'is expected: name a network that gives its features, '
                      'of a whole model its backbone')
    if not len(feats):
        raise Refused(f'{type(network).__name__} gives no layer: let its '
                      'out_indices name one')
    layout, last = layout_of(network), feats[-1]
    if last.ndim == 4 and layout.channels_last:
        feats = [x.permute(0, 3, 1, 2) if x.ndim == 4 else x for x in feats]
    elif last.ndim == 4 and layout.prefix is None and looks_channels_last(
            last.shape, image):
        raise Refused(
            f'{type(network).__name__} seems to give maps (B, h, w, C), here '
            f'{tuple(last.shape)}, and (B, C, h, w) is wanted: wrap it in a '
            'network that permutes them')
    if last.ndim != 3 or layout.prefix is None:
        return Features(feats, None)
    prefix = layout.prefix - layout.registers
    if layout.registers:
        feats = [
            torch.cat((x[:, :prefix], x[:, layout.prefix:]), 1) for x in feats
        ]
    return Features(feats, prefix,
                    grid_of(feats[-1].shape[1] - prefix, image, layout.patch))


def check_tokens(place, tokens, such_as):
    """Refuse what a neck gives in the place of tokens (B, L, C).

    Args:
        place (str): of the neck in a config.
        tokens (object): that it gave.
        such_as (str): the class to name in its place.

    Raises:
        Refused: naming both.
    """
    if not isinstance(tokens, torch.Tensor) or tokens.ndim != 3:
        raise Refused(f'{place} gives {described(tokens)}, and tokens '
                      f'(B, L, C) are expected: set {place}.type={such_as}, '
                      'say')


def looks_channels_last(shape, image):
    """Whether a map has the proportions of the image as (B, h, w, C) alone."""
    _, first, second, last = shape
    height, width = image
    return (first * width == second * height
            and second * width != last * height)


def grid_of(count, image, patch=None):
    """(h, w) of so many patches of an image (H, W).

    Args:
        patch (int | None): their side in pixels. If it is not known, the grid
            has the proportions of the image.

    Returns:
        tuple | None: None if there is no such grid, as where patches stick
        out of the image.
    """
    height, width = image
    if patch:
        h, w = height // patch, width // patch
        return (h, w) if h * w == count else None
    h = isqrt(count * height // width)
    w = count // h if h else 0
    return (h, w) if h * w == count and h * width == w * height else None
