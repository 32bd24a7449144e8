"""NMS and RoIAlign for detectors, where mmcv is installed without its ops.

mmdet calls them in the compiled module `mmcv._ext`. Importing this file puts
a module in its place whose NMS and RoIAlign are torchvision's; a compiled mmcv
keeps its own. `tools/train.py` does it where a config needs it, other programs
by

    custom_imports = dict(
        imports=['mmfd.hosts.mmcv_ops'], allow_failed_imports=False)

in a config, or, where a program imports mmdet before it reads one, as mmdet's
own test.py does, by

    python -m mmfd.hosts.mmcv_ops PROGRAM [ARGUMENTS]

Every function takes and fills what the C++ function of its name does (mmcv
`ops/csrc/pytorch/`), forward and backward.
"""
import importlib.util
import runpy
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import torch
import torchvision

from mmfd.hosts import versions
from mmfd.hosts.lookup import find

NAME = 'mmcv._ext'
NAIVE, LINEAR, GAUSSIAN = range(3)  # methods of soft-NMS


def nms(boxes, scores, iou_threshold, offset):
    """Indices of the boxes that no box of a higher score covers, best first.

    Args:
        boxes: (N, 4), left, top, right, bottom.
        scores: (N, ).
        offset (int): added to widths and heights, 0 or 1.
    """
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], 1)
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def softnms(boxes, scores, dets, iou_threshold, sigma, min_score, method,
            offset):
    """Lower the scores of covered boxes, and drop those below `min_score`.

    As `nms`, for fp32 on the CPU, and:

    Args:
        dets: (N, 5), filled with kept boxes and their scores, best first.
        sigma (float): width of the Gaussian.
        method (int): 0 drops what is covered, 1 lowers in a line, 2 by a
            Gaussian of the overlap.

    Returns:
        Tensor: indices of the boxes kept.
    """
    corners = boxes.detach().numpy().T.copy()  # (4, N)
    areas = (corners[2:] - corners[:2] + offset).prod(0)
    current = scores.detach().numpy().copy(
    )  # NaN of boxes that are kept or dropped
    order = [*range(len(boxes))]  # kept boxes, best first, then the others
    place = [*order]  # of each box in `order`
    final = []  # scores of the kept boxes
    lowered = np.arange(len(boxes))  # all are compared once with min_score

    with np.errstate(invalid='ignore', divide='ignore'):  # of empty boxes
        while len(final) < len(order):
            best = first = order[len(final)]
            highest = np.fmax.reduce(current)
            # among equals, and where empty boxes make NaN, the C++ function's
            if highest > current[first]:
                equals = (current == highest).nonzero()[0].tolist()
                best = min(equals, key=place.__getitem__)
                order[place[best]], place[first] = first, place[best]
                order[len(final)], place[best] = best, len(final)
            final.append(current[best])
            current[best] = np.nan
            overlap = _overlap(corners, areas, best, offset)
            covered = (overlap != 0 if method == GAUSSIAN else overlap
                       >= iou_threshold).nonzero()
            current[covered] *= _weights(overlap[covered], method, sigma)
            lowered = lowered if len(final) == 1 else covered[0]
            dropped = lowered[current[lowered] < min_score]
            current[dropped] = np.nan
            _close_gaps(order, place, dropped.tolist())
    kept = torch.tensor(order, dtype=torch.int64)
    dets[:len(kept), :4] = boxes.detach()[kept]
    dets[:len(kept), 4] = torch.from_numpy(np.array(final, current.dtype))
    return kept


def _overlap(corners, areas, box, offset):
    """Intersection over union of one box and all, (N, )."""
    left, top, right, bottom = corners
    width = np.minimum(right, right[box]) - np.maximum(left, left[box])
    height = np.minimum(bottom, bottom[box]) - np.maximum(top, top[box])
    shared = np.maximum(width + offset, 0) * np.maximum(height + offset, 0)
    return shared / (areas[box] + areas - shared)


def _weights(overlap, method, sigma):
    """What is left of the scores of covered boxes, (N, ).

    The exponential is PyTorch's: NumPy's rounds otherwise, which decides
    between boxes that are nearly equal.
    """
    if method == GAUSSIAN:
        return torch.from_numpy(overlap * overlap / -sigma).exp_().numpy()
    return 1 - overlap if method == LINEAR else 0 * overlap


def _close_gaps(order, place, dropped):
    """Drop boxes from `order`; the last of the others take their places."""
    if not dropped:
        return
    count = len(order) - len(dropped)
    gaps = sorted(p for p in map(place.__getitem__, dropped) if p < count)
    dropped = {*dropped}
    others = [box for box in order[count:] if box not in dropped]
    for gap in gaps:
        order[gap] = others.pop()
        place[order[gap]] = gap
    del order[count:]


def roi_align_forward(input, rois, output, argmax_y, argmax_x, aligned_height,
                      aligned_width, spatial_scale, sampling_ratio, pool_mode,
                      aligned):
    """Fill `output` (N, C, h, w) with the maps below the boxes.

    Args:
        input: (B, C, H, W).
        rois: (N, 5), index of the image and a box in pixels.
        argmax_y, argmax_x: empty, as averages have no maximum.
        spatial_scale (float): map over pixels.
        sampling_ratio (int): points a bin and axis, 0 for as many as needed.
        pool_mode (int): 1, the average.
        aligned (bool): pixels are areas, not points.

    Raises:
        NotImplementedError: for the maximum.
    """
    _check_averages(pool_mode)
    output.copy_(
        torchvision.ops.roi_align(input, rois, (aligned_height, aligned_width),
                                  spatial_scale, sampling_ratio, aligned))


def roi_align_backward(grad_output, rois, argmax_y, argmax_x, grad_input,
                       aligned_height, aligned_width, spatial_scale,
                       sampling_ratio, pool_mode, aligned):
    """Fill `grad_input` (B, C, H, W); arguments as of the forward.

    Raises:
        Refused: if this torchvision has another name for it.
    """
    _check_averages(pool_mode)
    size = aligned_height, aligned_width
    backward = find('torch:ops.torchvision._roi_align_backward')
    if backward is None:
        raise versions.lacks('torchvision',
                             'ops.torchvision._roi_align_backward')
    grad_input.copy_(
        backward(grad_output, rois, spatial_scale, *size, *grad_input.shape,
                 sampling_ratio, aligned))


def _check_averages(pool_mode):
    if pool_mode != 1:
        _lacking("roi_align with pool_mode='max'")


def _lacking(name, *args, **kwargs):
    raise NotImplementedError(
        f'{name} is a compiled op of mmcv that mmfd has no stand-in for: '
        'install an mmcv with its ops (MMCV_WITH_OPS=1), or choose a model '
        'without it')


class Ext(ModuleType):
    """`mmcv._ext` without C++; an op that is not here raises when called."""

    nms = staticmethod(nms)
    softnms = staticmethod(softnms)
    roi_align_forward = staticmethod(roi_align_forward)
    roi_align_backward = staticmethod(roi_align_backward)

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return partial(_lacking, name)


def install():
    """Put the stand-ins in place, unless mmcv has ops of its own."""
    if NAME in sys.modules or importlib.util.find_spec(NAME):
        return
    module = sys.modules[NAME] = Ext(NAME, __doc__)
    module.__spec__ = ModuleSpec(NAME, None)
    sys.modules['mmcv']._ext = module


install()  # whoever imports this file asks for it, as a config does

if __name__ == '__main__':
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name='__main__')
