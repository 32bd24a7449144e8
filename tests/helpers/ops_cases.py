"""Random and edge cases for NMS and RoIAlign, and what mmcv makes of them.

Run on an mmcv with compiled ops, this file writes their results:

    python tests/helpers/ops_cases.py
"""
from pathlib import Path

import numpy as np
import torch

RESULTS = Path(__file__).parents[1] / 'fixtures' / 'ops.npz'
COUNT = 120  # random cases of each op
INF = 1e3  # far outside of every image


def _boxes(rng, count, size=20., round_=False):
    """Boxes inside and outside, thin ones, empty ones, and copies."""
    corner = rng.uniform(-8, size, (count, 2))
    side = rng.uniform(0, size / 2, (count, 2)) * (
        rng.random((count, 2)) > 0.1)
    boxes = np.concatenate([corner, corner + side], 1).astype(np.float32)
    if count > 3:
        boxes[rng.integers(count)] = boxes[rng.integers(count)]
    return torch.from_numpy(boxes.round() if round_ else boxes)


def suppressed():
    """(dets, keep) of `nms`, `batched_nms` and `soft_nms`, by name."""
    from mmcv.ops import batched_nms, nms, soft_nms
    for seed in range(COUNT):
        rng = np.random.default_rng(seed)
        count = 0 if seed == 0 else int(rng.integers(1, 60))
        boxes = _boxes(rng, count, round_=seed % 3 == 0)
        scores = torch.from_numpy(rng.random(count).astype(np.float32))
        classes = torch.from_numpy(rng.integers(0, 4, count))
        threshold, offset = float(rng.uniform(0.05, 0.6)), seed % 2
        yield f'nms {seed}', nms(
            boxes,
            scores,
            threshold,
            offset,
            score_threshold=0.3 * (seed % 5 == 0),
            max_num=10 if seed % 7 == 0 else -1)
        method = ('linear', 'gaussian', 'naive')[seed % 3]
        if count:
            for name, aware in (dict(type='nms'),
                                False), (dict(type='nms'), True), (dict(
                                    type='soft_nms',
                                    method=method,
                                    min_score=0.05,
                                    sigma=0.5), True):
                yield (f'batched {name["type"]} {aware} {seed}',
                       batched_nms(
                           boxes,
                           scores,
                           classes,
                           dict(name, iou_threshold=threshold),
                           class_agnostic=not aware))
        yield f'{method} {seed}', soft_nms(
            boxes,
            scores,
            threshold,
            sigma=0.7,
            min_score=0.1 * (seed % 4),
            method=method,
            offset=offset)


def aligned():
    """(maps, gradient) of `roi_align`, by name."""
    from mmcv.ops import roi_align
    for seed in range(COUNT):
        rng = np.random.default_rng([1, seed])
        maps = torch.from_numpy(rng.normal(size=(2, 2, 7, 6)))
        maps = maps.float().requires_grad_()
        rois = _boxes(rng, 0 if seed == 0 else int(rng.integers(1, 5)))
        if seed == 1:
            rois[:] = torch.tensor([-INF, -INF, -INF + 1, -INF + 1])
        if seed == 2:
            rois[:, 2:] = rois[:, :2]  # no area
        if seed == 3:
            rois[:] = torch.tensor([-INF, -INF, INF, INF])
        image = torch.from_numpy(rng.integers(0, 2, (len(rois), 1))).float()
        out = roi_align(maps, torch.cat([image, rois], 1), (3, 2 + seed % 2),
                        (1., 0.5, 0.25)[seed % 3],
                        0 if seed == 3 else int(rng.integers(0, 3)), 'avg',
                        seed % 4 != 1)
        weight = torch.from_numpy(rng.normal(size=out.shape)).float()
        (out * weight).sum().backward()
        yield f'roi_align {seed}', (out.detach(), maps.grad)


def results():
    """Name -> array, of everything above."""
    return {
        f'{name} {part}': value.numpy()
        for cases in (suppressed(), aligned())
        for name, values in cases
        for part, value in enumerate(values)
    }


if __name__ == '__main__':
    np.savez_compressed(RESULTS, **results())
