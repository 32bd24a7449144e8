"""Branches of the images that keep them, against multiplying by zero."""
import pytest
import torch
from mmcv.cnn.bricks import DropPath

from mmfd.fast.drop_path import residual


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
