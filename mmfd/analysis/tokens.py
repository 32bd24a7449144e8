"""Record the tokens of each block of a backbone, without editing it."""
from typing import NamedTuple

import torch

from mmfd.networks.blocks import blocks
from mmfd.networks.token_layout import (grid_of, layout_inside, layout_of,
                                        looks_channels_last)

OUTPUT = 'output'  # name of what the backbone itself returns


class Tokens(NamedTuple):
    """What a layer gives: cls tokens (B, n, C), a map (B, h, w, C)."""
    cls: torch.Tensor
    map: torch.Tensor


class TokenRecorder:
    """Within it, call `consume` with what each block of a backbone gives.

    Args:
        backbone (nn.Module): it is called with images.
        consume (Callable): takes the name of a block and its `Tokens`. What
            the backbone returns comes last, named `'output'`, if it is tokens
            or a map.
    """

    def __init__(self, backbone, consume):
        self.layers = {**blocks(backbone), OUTPUT: backbone}
        self.inside, self.outside = layout_inside(backbone), layout_of(
            backbone)
        self.image = None  # (H, W) in pixels
        self.consume, self.handles = consume, []

    def __enter__(self):
        self.handles = [
            module.register_forward_hook(self._hook(name))
            for name, module in self.layers.items()
        ]
        self.handles.append(self.layers[OUTPUT].register_forward_pre_hook(
            self._remember_size))
        return self

    def _remember_size(self, module, args):
        self.image = tuple(args[0].shape[-2:])

    def __exit__(self, *error):
        while self.handles:
            self.handles.pop().remove()

    def _hook(self, name):

        def hook(module, args, output):
            last = name == OUTPUT
            if isinstance(output, (tuple, list)):
                output = output[-1 if last else 0]
            layout = self.outside if last else self.inside
            tokens = tokens_of(output, layout, self.image)
            if tokens:
                self.consume(name, tokens)

        return hook


def tokens_of(output, layout, image):
    """The `Tokens` in what a layer returned; None if there are none.

    It may be (B, L, C), with the map at the end of L and registers before it,
    which are left out; (B, C, h, w); or (B, h, w, C), if the network says so
    or only that has the proportions of the image.

    Args:
        layout (Layout): what the network says.
        image (tuple[int]): (H, W) of what the network was given.
    """
    if output.ndim == 3:
        if layout.prefix is None:
            return None
        grid = grid_of(output.shape[1] - layout.prefix, image)
        if grid is None:
            return None
        return Tokens(output[:, :layout.prefix - layout.registers],
                      output[:, layout.prefix:].unflatten(1, grid))
    if output.ndim != 4:
        return None
    channels_last = layout.channels_last or looks_channels_last(
        output.shape, image)
    featmap = output if channels_last else output.permute(0, 2, 3, 1)
    return Tokens(featmap[:, 0, :0], featmap)
