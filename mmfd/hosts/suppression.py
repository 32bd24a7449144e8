"""mmcv's NMS and soft-NMS, by torchvision and NumPy, in fp32."""
import numpy as np
import torch
import torchvision

NAIVE, LINEAR, GAUSSIAN = range(3)  # methods of soft-NMS


def nms(boxes, scores, iou_threshold, offset):
    """Indices of the boxes that no box of a higher score covers, best first.

    Args:
        boxes: (N, 4), left, top, right, bottom.
        scores: (N, ), which may be of another dtype.
        offset (int): added to widths and heights, 0 or 1.
    """
    boxes = boxes.float()
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], 1)
    return torchvision.ops.nms(boxes, scores.float(), iou_threshold)


def softnms(boxes, scores, dets, iou_threshold, sigma, min_score, method,
            offset):
    """Lower the scores of covered boxes, and drop those below `min_score`.

    As `nms`, on the CPU, and:

    Args:
        dets: (N, 5), filled with kept boxes and their scores, best first.
        sigma (float): width of the Gaussian.
        method (int): 0 drops what is covered, 1 lowers in a line, 2 by a
            Gaussian of the overlap.

    Returns:
        Tensor: indices of the boxes kept.
    """
    exact = boxes.detach().float()
    corners = exact.numpy().T.copy()  # (4, N)
    areas = (corners[2:] - corners[:2] + offset).prod(0)
    current = scores.detach().float().numpy().copy(
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
    dets[:len(kept), :4] = exact[kept]
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
