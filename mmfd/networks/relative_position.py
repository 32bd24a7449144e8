"""Relative position bias, carried over to another grid of patches."""
from functools import lru_cache
from math import isqrt, prod

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from mmfd.errors import Refused
from mmfd.weights.checkpoints import DERIVED_BUFFERS


def resize(table, source, target, extra=3):
    """Resample a table of relative position bias in geometric sequence.

    As BEiT and FD do (official file `utils.py`): the offsets of the small
    grid are spread to those of the large one in steps that grow by a constant
    ratio, so near offsets keep their bias, and a cubic spline reads off the
    whole offsets. Separable and linear in the table, so it has a gradient.

    Args:
        table (Tensor): ((2h - 1)(2w - 1) + extra, H), as in
            `mmpretrain.BEiTViT`.
        source (tuple[int]): the grid (h, w) of the table.
        target (tuple[int]): the grid to resample for.
        extra (int): last rows that are no offset and are kept; the three to,
            from and within a cls token.

    Returns:
        Tensor: as `table`, for the target grid.

    Raises:
        Refused: if the table is not one of the source grid.
    """
    height, width = (2 * side - 1 for side in source)
    if len(table) != height * width + extra:
        raise Refused(
            f'a bias table of {len(table)} rows does not belong to a grid of '
            f'{source[0]} x {source[1]} patches, which has {height} x {width} '
            f'offsets and {extra} more')
    offsets, others = table[:height * width], table[height * width:]
    # in fp64, which autocast leaves alone
    rows, columns = (
        matrix(*sides).to(table.device) for sides in zip(source, target))
    offsets = torch.einsum('ih,jw,hwn->ijn', rows, columns,
                           offsets.double().view(height, width, -1))
    return torch.cat([offsets.flatten(0, 1).to(table), others])


def fit(table, rows, grid):
    """A file's table resampled for a network's grid.

    Args:
        table (Tensor): (rows of the file, H), of a square grid. Any other is
            returned as it is: its size does not fit when it is loaded.
        rows (int): of the network's table: the offsets of its grid, and
            those for a cls token.
        grid (tuple[int]): (h, w) of the network.
    """
    extra = rows - prod(2 * side - 1 for side in grid)
    side = (isqrt(max(len(table) - extra, 0)) + 1) // 2
    if len(table) == rows or len(table) != (2 * side - 1)**2 + extra:
        return table
    return resize(table, (side, side), grid, extra)


def keep_computed(network, state_dict, prefix):
    """Replace a file's tables that follow from grid and windows.

    Those of the network, which it has computed itself, take their place in
    `state_dict`, so that strict loading finds them.
    """
    for name in list(state_dict):
        if name.startswith(prefix) and name.endswith(DERIVED_BUFFERS):
            del state_dict[name]
    for name, value in network.state_dict().items():
        if name.endswith(DERIVED_BUFFERS):
            state_dict[prefix + name] = value


@lru_cache(maxsize=64)
@unset_fake_temporarily()  # what is remembered may be asked for values later,
@torch.inference_mode(False)  # and meet a gradient
def matrix(source, target):
    """What one axis is multiplied by, for sides in patches.

    Returns:
        Tensor: (2 target - 1, 2 source - 1), fp64 on the CPU.
    """
    exact = dict(dtype=torch.float64, device='cpu')
    if source == target:
        return torch.eye(2 * source - 1, **exact)
    steps = common_ratio(source, target)**torch.arange(source - 1, **exact)
    known = steps.cumsum(0)
    known = torch.cat([-known.flip(0), known.new_zeros(1), known])
    wanted = torch.arange(1 - target, target, **exact)
    wanted = wanted.clamp(known[0], known[-1])  # no extrapolation
    # A cubic spline has as many free numbers as points once it has no knot at
    # the second and the last but one.
    degree = min(3, len(known) - 1)
    ends = known.new_ones(degree + 1)
    knots = torch.cat([known[0] * ends, known[2:-2], known[-1] * ends])
    return torch.linalg.solve(
        _b_splines(known, knots, degree),
        _b_splines(wanted, knots, degree),
        left=False)


def common_ratio(source, target):
    """By how much each step of the source is longer than the one before.

    So that `source - 1` steps, the first of them 1, span `target - 1`; between
    1.01 and 1.5, and bisected only as far as the official code does. Where a
    grid shrinks the ratio is 1.01 and the outer offsets are cut off.
    """
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**(source - 1)) / (1 - ratio) > target - 1:
            high = ratio
        else:
            low = ratio
    return ratio


def _b_splines(points, knots, degree):
    """Values (points, splines) of B-splines, by de Boor's recursion."""
    last = len(knots) - degree - 2  # the last interval that is not empty
    interval = torch.searchsorted(knots, points, right=True) - 1
    values = torch.nn.functional.one_hot(
        interval.clamp(max=last),
        len(knots) - 1).to(knots)
    points = points[:, None]
    for d in range(1, degree + 1):
        left, right = knots[:-d - 1], knots[d + 1:]
        rising = (points - left) / (knots[d:-1] - left)
        falling = (right - points) / (right - knots[1:-d])
        # an empty interval has no spline of its own: 0 / 0 counts as 0
        values = (
            rising.nan_to_num(0, 0, 0) * values[:, :-1] +
            falling.nan_to_num(0, 0, 0) * values[:, 1:])
    return values
