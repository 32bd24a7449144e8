"""Tables of relative position bias, fitted to another grid of patches."""
from functools import lru_cache
from math import isqrt, prod

import torch

from mmfd.errors import Refused
from mmfd.hosts import operations
from mmfd.weights.checkpoints import DERIVED_BUFFERS


def resize(table, source, target, extra=3, by=None):
    """Resample a bias table for another grid, in geometric sequence.

    As BEiT and FD do (official file `utils.py`): the offsets of the source
    are spread over those of the target in steps that grow by a constant
    ratio, so that near offsets keep their bias; a cubic spline gives the bias
    at integer offsets. This is linear in the table, so it has a gradient, and
    separable: one matrix for rows and one for columns.

    Args:
        table (Tensor): ((2h - 1)(2w - 1) + extra, H), as in
            `mmpretrain.BEiTViT`.
        source (tuple[int]): the grid (h, w) of the table, in patches.
        target (tuple[int]): the grid to resample for, in patches.
        extra (int): how many of the last rows are no offsets and stay as they
            are: the three to, from and within a cls token.
        by (list[Tensor]): what `matrices` gives, where many tables are
            resampled alike.

    Returns:
        Tensor: a table as `table`, for the target grid; itself, if that is
        the source.

    Raises:
        Refused: if the table is not one of the source grid.
    """
    height, width = (2 * side - 1 for side in source)
    if len(table) != height * width + extra:
        raise Refused(
            f'a bias table of {len(table)} rows does not belong to a grid of '
            f'{source[0]} x {source[1]} patches, which has {height} x {width} '
            f'offsets and {extra} more')
    if (*source, ) == (*target, ):
        return table
    offsets, others = table[:height * width], table[height * width:]
    # in fp64, which autocast leaves alone
    rows, columns = by or matrices(source, target, table.device)
    offsets = torch.einsum('ih,jw,hwn->ijn', rows, columns,
                           offsets.double().view(height, width, -1))
    return torch.cat([offsets.flatten(0, 1).to(table), others])


def matrices(source, target, device):
    """The matrices that resample rows and columns, on a device.

    They are copied to it without waiting for what it computes.
    """
    return [
        matrix(*sides).to(device, non_blocking=True)
        for sides in zip(source, target)
    ]


def fit(table, rows, grid):
    """Resample a file's bias table for a network, if it is of another grid.

    Args:
        table (Tensor): (rows, H). Where the grid of its rows is not square,
            it is returned as it is, and loading refuses its size.
        rows (int): how many the network's table has: the offsets of `grid`,
            and those of a cls token.
        grid (tuple[int]): (h, w) in patches.

    Returns:
        Tensor: (`rows`, H).
    """
    extra = rows - prod(2 * side - 1 for side in grid)
    side = (isqrt(max(len(table) - extra, 0)) + 1) // 2
    if len(table) == rows or len(table) != (2 * side - 1)**2 + extra:
        return table
    return resize(table, (side, side), grid, extra)


def keep_derived_buffers(network, state_dict, prefix):
    """Put a network's own derived buffers in the place of a file's.

    They follow from grid and windows, which may differ from the file's.
    """
    for name in list(state_dict):
        if name.startswith(prefix) and name.endswith(DERIVED_BUFFERS):
            del state_dict[name]
    for name, value in network.state_dict().items():
        if name.endswith(DERIVED_BUFFERS):
            state_dict[prefix + name] = value


@lru_cache(maxsize=64)
def matrix(source, target):
    """The matrix that resamples one axis, for sides in patches.

    Returns:
        Tensor: (2 target - 1, 2 source - 1), fp64 on the CPU.
    """
    # later calls need the values of what is cached, and gradients by it
    with operations.real_tensors(), torch.inference_mode(False):
        return _spline_matrix(source, target)


def _spline_matrix(source, target):
    exact = dict(dtype=torch.float64, device='cpu')
    if source == target:  # as one side of a grid may be
        return torch.eye(2 * source - 1, **exact)
    steps = common_ratio(source, target)**torch.arange(source - 1, **exact)
    known = steps.cumsum(0)
    known = torch.cat([-known.flip(0), known.new_zeros(1), known])
    wanted = torch.arange(1 - target, target, **exact)
    wanted = wanted.clamp(known[0], known[-1])  # no extrapolation
    # Without knots at the second and the last but one point, a cubic spline
    # has as many parameters as there are points ("not-a-knot").
    degree = min(3, len(known) - 1)
    ends = known.new_ones(degree + 1)
    knots = torch.cat([known[0] * ends, known[2:-2], known[-1] * ends])
    return torch.linalg.solve(
        _b_splines(known, knots, degree),
        _b_splines(wanted, knots, degree),
        left=False)


def common_ratio(source, target):
    """The ratio of each step of the source to the one before.

    `source - 1` steps, the first of length 1, span `target - 1`. The ratio is
    between 1.01 and 1.5, bisected only as far as the official code does. Where
    a grid shrinks it is 1.01, and the outer offsets are cut off.
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
    """Values of B-splines, (points, splines), by de Boor's recursion."""
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
        # an empty interval has no spline: 0 / 0 counts as 0
        values = (
            rising.nan_to_num(0, 0, 0) * values[:, :-1] +
            falling.nan_to_num(0, 0, 0) * values[:, 1:])
    return values
