"""Stand-ins for mmcv's ops with a gradient, against formulas written out.

The formulas know nothing of PyTorch's or torchvision's ops: sums over points,
each between four pixels. All is compared in fp64, and in each precision, with
the rounding of what goes out as the bound.
"""
from itertools import product
from math import ceil, floor

import pytest
import torch

from mmfd.hosts import mmcv_ops

mmcv_ops.install()
BOUND = {  # of the relative error: rounded here, and once more in mmcv
    torch.float32: 1e-5,
    torch.float16: 2 * 2**-11 + 1e-5,
    torch.bfloat16: 2 * 2**-8 + 1e-5
}


def between(pixels, y, x):
    """What a map (C, H, W), zero outside, is at a point between its pixels."""
    total = 0.
    sides = [{floor(s), ceil(s)} for s in (y.item(), x.item())]
    for i, j in product(*sides):
        if 0 <= i < pixels.shape[1] and 0 <= j < pixels.shape[2]:
            total = total + (1 - abs(y - i)) * (1 - abs(x - j)) * (
                pixels[:, i, j])
    return total


def focal_loss(logits, target, weight):
    """Lin et al., arXiv 1708.02002, eq. 5, with gamma 2 and alpha 0.25."""
    rows = []
    for row, label in zip(logits, target.tolist()):
        losses = []
        for c, logit in enumerate(row):
            p = 1 / (1 + (-logit).exp())
            if c == label:
                loss = -0.25 * (1 - p)**2 * p.log()
            else:
                loss = -0.75 * p**2 * (1 - p).log()
            losses.append(loss)
        inside = 0 <= label < len(weight)
        rows.append(torch.stack(losses) * (weight[label] if inside else 1))
    return torch.stack(rows)


def deformable_attention(value, points, weights, shapes):
    """Zhu et al., arXiv 2010.04159, eq. 3; arguments as mmcv's."""
    (images, _, heads, _), queries = value.shape, points.shape[1]
    out = []
    for b, q, h in product(range(images), range(queries), range(heads)):
        total, start = 0., 0
        for level, (height, width) in enumerate(shapes):
            stop = start + height * width
            pixels = value[b, start:stop, h].T.unflatten(1, (height, width))
            for point, weight in zip(points[b, q, h, level], weights[b, q, h,
                                                                     level]):
                x, y = point[0] * width - 0.5, point[1] * height - 0.5
                total = total + weight * between(pixels, y, x)
            start = stop
        out.append(total)
    return torch.cat(out).view(images, queries, -1)


def deformable_convolution(x, offset, weight, mask=None, bias=None):
    """Zhu et al., arXiv 1811.11168, eq. 1: 3 x 3, stride 2, padding 1."""
    size = offset.shape[2:]
    groups = offset.shape[1] // 18  # of channels that share offsets
    parts = x.chunk(groups, 1)
    rows = []
    for b, i, j in product(range(len(x)), *map(range, size)):
        taps = []
        for (g, part), k in product(enumerate(parts), range(9)):
            place = 18 * g + 2 * k
            y = 2 * i - 1 + k // 3 + offset[b, place, i, j]
            z = 2 * j - 1 + k % 3 + offset[b, place + 1, i, j]
            tap = between(part[b], y, z) + part.new_zeros(part.shape[1])
            taps.append(tap if mask is None else mask[b, 9 * g + k, i, j] *
                        tap)
        taps = torch.stack(taps).unflatten(0, (groups, 9))
        taps = taps.transpose(1, 2).flatten(0, 1)  # (C, 9)
        rows.append((weight.flatten(2) * taps).sum((1, 2)))
    out = torch.stack(rows).view(len(x), *size, -1).permute(0, 3, 1, 2)
    return out if bias is None else out + bias[:, None, None]


SHAPES = [(3, 4), (2, 2)]  # of the maps that are attended to
LABELS = torch.tensor([0, 2, 3, -1, 1])  # of three classes, two of none


def ops():
    """Name -> (mmcv's op, the formula, tensors with a gradient)."""
    from mmcv import ops
    focal_weight = torch.tensor([1., 0.5, 2.])
    shapes = torch.tensor(SHAPES)
    starts = torch.tensor([0, 12])
    torch.manual_seed(1)
    convolution = [
        torch.randn(2, 4, 5, 6), 2 * torch.randn(2, 36, 3, 3),
        torch.randn(3, 4, 3, 3)
    ]
    return dict(
        focal=(lambda x: ops.sigmoid_focal_loss(x, LABELS, 2., 0.25, None,
                                                'none'),
               lambda x: focal_loss(x, LABELS, torch.ones(3)),
               [3 * torch.randn(5, 3)]),
        weighted=(lambda x: ops.sigmoid_focal_loss(x, LABELS, 2., 0.25,
                                                   focal_weight.to(x), 'none'),
                  lambda x: focal_loss(x, LABELS, focal_weight),
                  [3 * torch.randn(5, 3)]),
        attention=(lambda v, p, w: ops.multi_scale_deform_attn.
                   MultiScaleDeformableAttnFunction.apply(
                       v, shapes, starts, p, w, 64),
                   lambda v, p, w: deformable_attention(v, p, w, SHAPES), [
                       torch.randn(2, 16, 2, 3),
                       1.4 * torch.rand(2, 2, 2, 2, 2, 2) - 0.2,
                       torch.rand(2, 2, 2, 2, 2)
                   ]),
        convolution=(lambda x, o, w: ops.deform_conv2d(x, o, w, 2, 1, 1, 1, 2),
                     deformable_convolution, convolution),
        modulated=(lambda x, o, w, m: ops.modulated_deform_conv2d(
            x, o, m, w, None, 2, 1, 1, 1, 2), deformable_convolution,
                   [*convolution, torch.rand(2, 18, 3, 3)]),
        biased=(lambda x, o, w, m, b: ops.modulated_deform_conv2d(
            x, o, m, w, b, 2, 1, 1, 1, 2), deformable_convolution,
                [*convolution,
                 torch.rand(2, 18, 3, 3),
                 torch.randn(3)]))


NAMES = ('focal', 'weighted', 'attention', 'convolution', 'modulated',
         'biased')


def results(op, inputs, dtype, autocast=False, rounded=None):
    """What an op gives, and a gradient of each input, as one list.

    Args:
        rounded (torch.dtype): to which inputs and gradient are rounded first.
    """
    inputs = [x.to(rounded or dtype) for x in inputs]
    inputs = [x.to(dtype).requires_grad_() for x in inputs]
    with torch.autocast('cpu', torch.bfloat16, autocast):
        out = op(*inputs)
    torch.manual_seed(2)
    grad = torch.randn(out.shape).to(rounded or dtype).to(dtype)
    return [out, *torch.autograd.grad(out, inputs, grad)]


@pytest.mark.parametrize('name', NAMES)
def test_op_and_its_gradients_are_the_formulas(name):
    op, formula, inputs = ops()[name]
    for ours, theirs in zip(
            results(op, inputs, torch.float64),
            results(formula, inputs, torch.float64)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('dtype', BOUND)
@pytest.mark.parametrize('name', NAMES)
def test_op_is_computed_in_fp32_whatever_it_is_given(name, dtype, autocast):
    op, _, inputs = ops()[name]
    exact = results(op, inputs, torch.float64, rounded=dtype)
    for ours, theirs in zip(results(op, inputs, dtype, autocast), exact):
        assert ours.dtype == dtype
        distance = (ours.double() - theirs).abs()
        assert (distance <= BOUND[dtype] * theirs.abs() +
                1e-5 * theirs.abs().max()).all()


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('dtype', BOUND)
def test_boxes_in_fp32_find_their_place_in_maps_of_any_dtype(dtype, autocast):
    from mmcv.ops import roi_align
    maps = torch.randn(1, 2, 40, 40).to(dtype)
    box = torch.tensor([[0, 1101.3, 1000.7, 1233.1, 1205.9]])  # of 1280 pixels

    def aligned(maps):
        return roi_align(maps, box, 3, 1 / 32)

    exact = results(aligned, [maps], torch.float32, rounded=dtype)
    for ours, theirs in zip(results(aligned, [maps], dtype, autocast), exact):
        assert ours.dtype == dtype
        assert ((ours - theirs).abs()
                <= BOUND[dtype] * theirs.abs() + 1e-5).all()


@pytest.mark.parametrize('boxes', BOUND)
@pytest.mark.parametrize('scores', BOUND)
def test_boxes_are_suppressed_in_fp32_whatever_scores_are_in(boxes, scores):
    from mmcv.ops import nms, soft_nms
    given = torch.tensor([[0., 0, 8, 8], [0, 0, 8, 7], [20, 20, 30, 30]])
    given, of = given.to(boxes), torch.tensor([0.5, 0.75, 0.25]).to(scores)
    # within autocast in bf16 nothing is in fp16
    mixed = torch.float16 not in (boxes, scores)
    with torch.autocast('cpu', torch.bfloat16, mixed):
        kept, indices = nms(given, of, 0.5)
        soft, order = soft_nms(given, of, 0.5, method='naive', min_score=0.1)
    assert indices.tolist() == order.tolist() == [1, 2]
    assert kept[:, 4].tolist() == soft[:, 4].tolist() == [0.75, 0.25]
