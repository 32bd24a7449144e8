"""Merging patches at once gives the numbers of nn.Unfold."""
import pytest
import torch
from helpers.models import build_random, esvit_teacher, swin_student
from mmengine.registry import MODELS
from torch import nn
from torch.profiler import profile

from mmfd.fast.unfold import unfold_at_once


@pytest.mark.parametrize('kernel', [2, 3, (2, 4)])
@pytest.mark.parametrize('size', [(8, 12), (9, 13)])
def test_numbers_and_gradients_are_those_of_unfold(kernel, size):
    """And what no patch covers is left out, as there."""
    theirs, ours = (nn.Unfold(kernel, stride=kernel) for _ in range(2))
    unfold_at_once(nn.Sequential(ours))
    x = torch.randn(2, *size, 5).permute(0, 3, 1, 2).requires_grad_()
    grad = torch.randn_like(theirs(x))
    expected = theirs(x), *torch.autograd.grad(theirs(x), x, grad)
    found = ours(x), *torch.autograd.grad(ours(x), x, grad)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize('settings', [
    dict(stride=1),
    dict(stride=2, padding=1),
    dict(stride=2, dilation=2),
])
def test_patches_that_overlap_or_are_padded_stay_as_they_are(settings):
    unfold = nn.Unfold(2, **settings)
    unfold_at_once(nn.Sequential(unfold))
    assert 'forward' not in vars(unfold)


@pytest.mark.parametrize('config', [swin_student(), esvit_teacher()])
def test_no_swin_calls_the_kernel_that_takes_one_image_after_the_other(config):
    network = (MODELS.build if 'checkpoint' in config else build_random)(
        config)
    with torch.no_grad(), profile() as seen:
        network(torch.randn(2, 3, 64, 64))
    called = {event.key for event in seen.key_averages()}
    assert 'aten::add' in called and 'aten::im2col' not in called
