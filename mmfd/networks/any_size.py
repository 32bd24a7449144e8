"""The ViT student on images of any size, for detectors and segmentors.

Tables of relative position bias are resampled for the grid of the images
(`relative_position`), in each block when it is computed: on 64 x 64 patches
the bias of one block takes 0.8 GB, so it is kept only where a gradient needs
it.
"""
from math import prod

import torch
import torch.nn.functional as F
from mmpretrain.models.utils import resize_pos_embed

from mmfd.fast.attention import attend, bias_of_pairs, offset_index
from mmfd.networks import image_size, relative_position

CLS_ROWS = 3  # of a table, for a cls token: to it, from it, to itself


def forward(vit, x):
    """Normalised images (B, 3, H, W) to a tuple of maps (B, C, h, w).

    At the size of training the maps are those of the host's forward. Sides
    that the patch does not divide are padded with zeros at the bottom and the
    right.

    Args:
        vit (StudentViT): with `window_size` and `global_blocks`.

    Raises:
        Refused: if an image is smaller than a patch.
    """
    image_size.check_patch_fits(x, vit.patch_embed.projection.kernel_size)
    x, grid = embedded(vit, x)
    x = vit.drop_after_pos(x)
    over_grid = GridAttention(vit, grid)
    in_windows = WindowAttention(vit, grid) if vit.window_size else None
    maps = []
    for i, layer in enumerate(vit.layers):
        windowed = in_windows and i not in vit.global_blocks
        x = layer(x, attend=in_windows if windowed else over_grid)
        if i in vit.out_indices:
            last = i == len(vit.layers) - 1 and vit.final_norm
            tokens = (vit.ln1(x) if last else x)[:, vit.num_extra_tokens:]
            maps.append(tokens.transpose(1, 2).unflatten(2, grid))
    return tuple(maps)


def embedded(vit, x):
    """Images to tokens (B, cls + L, C) with their positions, and the grid."""
    x, grid = vit.patch_embed(x)
    if vit.with_cls_token:
        x = torch.cat([vit.cls_token.expand(len(x), -1, -1), x], 1)
    if vit.pos_embed is not None:
        x = x + resize_pos_embed(vit.pos_embed, vit.patch_resolution, grid,
                                 vit.interpolate_mode, vit.num_extra_tokens)
    return x, grid


class GridAttention:
    """Attention over all patches of a grid, and the cls token before them.

    Args:
        vit (StudentViT): whose tables are resampled.
        grid (tuple[int]): (h, w) in patches.
    """

    def __init__(self, vit, grid):
        self.trained, self.grid = vit.patch_resolution, grid
        self.cls_tokens = vit.num_extra_tokens
        device = vit.patch_embed.projection.weight.device
        self.index = position_index(grid, device)
        self.matrices = relative_position.matrices(self.trained, grid, device)
        if not self.cls_tokens:
            self.index = self.index[1:, 1:]
        shared = vit.rel_pos_bias
        self.shared = None if shared is None else self.bias(
            shared.relative_position_bias_table)

    def bias(self, table):
        """A table of the trained grid to the bias of this grid's pairs.

        Returns:
            Tensor: (H, 1 + L, 1 + L).
        """
        table = relative_position.resize(table, self.trained, self.grid,
                                         CLS_ROWS * self.cls_tokens,
                                         self.matrices)
        return bias_of_pairs(table, self.index)

    def __call__(self, attn, x, _, gamma):
        """gamma * attn(x) for tokens (B, 1 + L, C).

        Args:
            attn (BEiTAttention): of a block, with its table if it has one.
            gamma (Tensor): layer scale, (C, ). None is 1.
        """
        bias, table = self.shared, attn.relative_position_bias_table
        if table is not None:
            bias = self.bias(table)
        return attend(attn, x, bias, gamma)


class WindowAttention(GridAttention):
    """Attention in windows that do not overlap (Li et al., arXiv 2203.16527).

    Where windows do not divide the grid it is padded with zeros at the bottom
    and the right. Every window has a copy of the cls token; their outputs are
    averaged. So one window as large as the grid is attention over all.
    """

    def __init__(self, vit, grid):
        super().__init__(vit, (vit.window_size, ) * 2)
        self.map = grid

    def __call__(self, attn, x, _, gamma):
        side, images = self.grid[0], len(x)
        rows, columns = self.map
        cls_token = x[:, :self.cls_tokens]
        x = x[:, self.cls_tokens:].unflatten(1, self.map)  # (B, h, w, C)
        x = F.pad(x, (0, 0, 0, -columns % side, 0, -rows % side))
        padded = x.shape[1:3]
        x = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))
        x = x.transpose(2, 3).flatten(0, 2).flatten(1, 2)  # (B n, side^2, C)
        windows = len(x) // images
        cls_token = cls_token.repeat_interleave(windows, 0)
        x = super().__call__(attn, torch.cat([cls_token, x], 1), None, gamma)
        cls_token = x[:, :self.cls_tokens]
        cls_token = cls_token.unflatten(0, (images, windows)).mean(1)
        x = x[:, self.cls_tokens:].unflatten(1, self.grid)
        x = x.unflatten(0, (images, padded[0] // side, -1)).transpose(2, 3)
        x = x.flatten(3, 4).flatten(1, 2)[:, :rows, :columns]
        return torch.cat([cls_token, x.flatten(1, 2)], 1)


def position_index(grid, device=None):
    """The row of the bias table for every pair of tokens.

    The host's `relative_position_index`, for any grid.

    Args:
        grid (tuple[int]): (h, w) in patches.

    Returns:
        Tensor: (1 + L, 1 + L), int32.
    """
    index = F.pad(offset_index(grid, device), (1, 0, 1, 0))
    count = prod(2 * side - 1 for side in grid)
    for i, part in enumerate((index[0], index[:, 0], index[0, 0])):
        part.fill_(count + i)  # an assignment would copy, and wait for it
    return index
