"""Patches that do not overlap, of all images at once.

On CUDA `nn.Unfold` launches a kernel for each image. Swin merges patches by
it, three times a forward; where patches lie side by side, one copy does.
"""
from functools import partial

from mmengine.utils import to_2tuple
from torch import nn


def unfold_at_once(network):
    """Let a network's `nn.Unfold`s copy once, with the same numbers."""
    for module in network.modules():
        if isinstance(module, nn.Unfold) and _side_by_side(module):
            module.forward = partial(_cut, module)


def _side_by_side(module):
    return (to_2tuple(module.stride) == to_2tuple(module.kernel_size)
            and to_2tuple(module.padding) == (0, 0)
            and to_2tuple(module.dilation) == (1, 1))


def _cut(module, x):
    """Maps (B, C, H, W) to patches (B, C k k, L); what is left over goes."""
    height, width = to_2tuple(module.kernel_size)
    rows, columns = x.shape[2] // height, x.shape[3] // width
    x = x[:, :, :rows * height, :columns * width]
    x = x.unflatten(3, (columns, width)).unflatten(2, (rows, height))
    # in the order in which a norm over channels will read them
    x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return x.transpose(1, 2)
