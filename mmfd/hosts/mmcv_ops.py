"""What detectors need of mmcv's compiled ops, where mmcv came without them.

mmdet reaches them through the module `mmcv._ext`. Importing this file puts one
in its place whose NMS and RoIAlign are torchvision's; a compiled mmcv keeps
its own. `tools/train.py` imports it by itself, other programs by

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

import torch
import torchvision

NAME = 'mmcv._ext'
NAIVE, LINEAR, GAUSSIAN = range(3)  # methods of soft-NMS


def nms(boxes, scores, iou_threshold, offset):
    """Indices of the boxes that no better one covers, best first.

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
    left = torch.arange(len(boxes))
    boxes, scores = boxes.clone(), scores.clone()
    kept = []
    while len(left):
        # among equals, and where empty boxes make NaN, the C++ function's
        better = scores[left] > scores[left[0]]
        best = scores[left].where(better, -torch.inf).argmax().item()
        left[[0, best]] = left[[best, 0]]
        first, left = left[0], left[1:]
        dets[len(kept)] = torch.cat([boxes[first], scores[first, None]])
        kept.append(first)
        overlap = _overlap(boxes[first], boxes[left], offset)
        if method == GAUSSIAN:
            scores[left] *= torch.exp(-overlap**2 / sigma)
        else:
            weight = 1 - overlap if method == LINEAR else 0 * overlap
            covered = overlap >= iou_threshold
            scores[left] *= torch.where(covered, weight, 1.)
        left = _closed_up(left, ~(scores[left] < min_score))
    return torch.stack(kept) if kept else left


def _overlap(box, boxes, offset):
    """Intersection over union of one box (4, ) and many (N, 4)."""
    top_left = torch.maximum(box[:2], boxes[:, :2])
    bottom_right = torch.minimum(box[2:], boxes[:, 2:])
    shared = (bottom_right - top_left + offset).clamp(min=0).prod(1)
    area, areas = ((b[..., 2:] - b[..., :2] + offset).prod(-1)
                   for b in (box, boxes))
    return shared / (area + areas - shared)


def _closed_up(items, alive):
    """Those alive, the last of them in the gaps of the dead."""
    count = int(alive.sum())
    closed, gaps = items[:count].clone(), ~alive[:count]
    closed[gaps] = items[count:][alive[count:]].flip(0)
    return closed


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
        torch.ops.torchvision.roi_align(input, rois, spatial_scale,
                                        aligned_height, aligned_width,
                                        sampling_ratio, aligned))


def roi_align_backward(grad_output, rois, argmax_y, argmax_x, grad_input,
                       aligned_height, aligned_width, spatial_scale,
                       sampling_ratio, pool_mode, aligned):
    """Fill `grad_input` (B, C, H, W); arguments as of the forward."""
    _check_averages(pool_mode)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output, rois, spatial_scale, aligned_height, aligned_width,
            *grad_input.shape, sampling_ratio, aligned))


def _check_averages(pool_mode):
    if pool_mode != 1:
        _lacking("roi_align with pool_mode='max'")


def _lacking(name, *args, **kwargs):
    raise NotImplementedError(
        f'{name} is a compiled op of mmcv that mmfd has no stand-in for: '
        'install an mmcv with its ops (MMCV_WITH_OPS=1), or choose a model '
        'without it')


class Ext(ModuleType):
    """`mmcv._ext` without C++: what is not here raises when it is called."""

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


install()

if __name__ == '__main__':
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name='__main__')
