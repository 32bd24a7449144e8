"""Branches of the images that keep them, against multiplying by zero."""
import pytest
import torch
from mmcv.cnn.bricks import DropPath
from torch.autograd.graph import saved_tensors_hooks

from mmfd.fast.drop_path import as_expected, residual


@pytest.mark.parametrize('rate', [0., .5, .999])
def test_images_that_lose_a_branch_are_not_computed_and_nothing_else_changes(
        rate):
    drop = DropPath(rate).train()
    layer = torch.nn.Linear(4, 4)
    x = torch.randn(8, 3, 4, requires_grad=True)
    computed = []

    def branch(x):
        computed.append(len(x))
        return layer(x)

    def grads(out):
        return torch.autograd.grad(out.square().sum(),
                                   [x, *layer.parameters()])

    torch.manual_seed(1)
    ours = residual(x, branch, drop)
    torch.manual_seed(1)  # the host draws the same images
    theirs = x + drop(layer(x))
    lost = (theirs == x).all((1, 2)).sum()
    assert computed == [max(8 - lost, 1)]  # one of none, for nothing
    assert rate != .999 or lost == 8
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(grads(ours), grads(theirs)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_what_a_branch_gave_is_not_kept_for_the_backward():
    x, kept = torch.randn(8, 3, 4, requires_grad=True), []
    hooks = saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    torch.manual_seed(1)
    with hooks:  # a multiplication by a number keeps nothing
        out = residual(x, lambda x: 2 * x, DropPath(.5).train())
    lost = (out == x).all((1, 2))
    images = (~lost).nonzero().flatten()
    assert 0 < lost.sum() < 8 and kept
    assert all(torch.equal(t, images) for t in kept)


@pytest.mark.parametrize('rate, images', [(0., 8), (.1, 8), (.2, 7), (.5, 4),
                                          (.999, 1)])
def test_as_many_images_keep_a_branch_as_is_expected_rounded_up(rate, images):
    computed = []
    with as_expected():
        residual(
            torch.zeros(8, 3, 4), lambda x: computed.append(len(x)) or x,
            DropPath(rate).train())
    assert computed == [images]
