"""Tokens of any backbone, block by block, without editing it."""
from math import isqrt
from typing import NamedTuple

from torch import nn

from mmfd.analysis.attention import MOST_EXTRA

CONTAINERS = (nn.Sequential, nn.ModuleList)
OUTPUT = 'output'


class Tokens(NamedTuple):
    """What a layer gives: cls tokens (B, n, C), a map (B, h, w, C)."""
    cls: object
    map: object


class Watch:
    """While it is entered, hand what every block gives to `consume`.

    Args:
        backbone (nn.Module): what is called with images.
        consume (Callable): takes the block's name and its `Tokens`. What the
            backbone itself returns comes last, as `'output'`, where it is
            tokens or a map.
    """

    def __init__(self, backbone, consume):
        self.watched = {**blocks(backbone), OUTPUT: backbone}
        self.consume, self.handles = consume, []

    def __enter__(self):
        self.handles = [
            module.register_forward_hook(self._hook(name))
            for name, module in self.watched.items()
        ]
        return self

    def __exit__(self, *error):
        while self.handles:
            self.handles.pop().remove()

    def _hook(self, name):

        def hook(module, args, output):
            if isinstance(output, (tuple, list)):
                output = output[-1 if name == OUTPUT else 0]
            tokens = split(output)
            if tokens:
                self.consume(name, tokens)

        return hook


def blocks(backbone):
    """The blocks a network repeats: name -> module, in their order.

    Members of its innermost lists that have modules of their own. So blocks
    of a ViT, of the stages of a Swin, of a ConvNeXt, and not the linear
    layers of their MLPs.
    """
    members = {
        f'{name}.{key}' if name else key: member
        for name, module in backbone.named_modules()
        if isinstance(module, CONTAINERS)
        for key, member in module.named_children() if _may_be_block(member)
    }
    return {
        name: member
        for name, member in members.items()
        if not any(other.startswith(name + '.') for other in members)
    }


def _may_be_block(module):
    bare = isinstance(module, CONTAINERS)
    return not bare and any(True for _ in module.children())


def split(output):
    """What a layer returned to `Tokens`; None if it is neither form.

    Forms are (B, L, C), the map last in L; (B, C, h, w) and (B, h, w, C), of
    which the one is taken whose map is square.
    """
    if output.ndim == 3:
        side = isqrt(output.shape[1])
        extra = output.shape[1] - side**2
        if extra > MOST_EXTRA:
            return None
        featmap = output[:, extra:].unflatten(1, (side, side))
        return Tokens(output[:, :extra], featmap)
    if output.ndim != 4:
        return None
    channels_last = (output.shape[1] == output.shape[2] != output.shape[3])
    featmap = output if channels_last else output.permute(0, 2, 3, 1)
    return Tokens(featmap[:, 0, :0], featmap)
