"""Attention by cosine, against the formula and the host's."""
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.utils import WindowMSAV2
from torch import nn

from mmfd.fast.cosine_attention import CosineAttention, NormalizeQK


@pytest.mark.parametrize('masked', [True, False])
def test_windows_and_their_gradients_are_the_hosts(masked):
    theirs = WindowMSAV2(24, (3, 3), 2)
    for param in theirs.parameters():
        nn.init.normal_(param, std=0.5)
    ours = CosineAttention(theirs, theirs.window_size[0])
    mask = -100. * (torch.rand(4, 9, 9) > 0.7) if masked else None
    x = torch.randn(8, 9, 24)  # of two images
    found = []
    for attn in (ours, theirs):
        attn.zero_grad()
        out = attn(x, mask)
        out.square().sum().backward()
        found.append([out, *(p.grad for p in attn.parameters())])
    assert [*ours.state_dict()
            ] and ours.state_dict().keys() == theirs.state_dict().keys()
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(
            a, b, rtol=0, atol=1e-5 * b.abs().max().item())


def test_directions_and_their_gradients_are_those_of_the_formula():
    qkv = torch.randn(3, 5, 3, 2, 8, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([0.5, 10.], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(NormalizeQK.apply, (qkv, scale))
    q, k, v = qkv.unbind(2)
    expected = F.normalize(q, dim=-1) * scale[:, None], F.normalize(k, dim=-1)
    torch.testing.assert_close(
        NormalizeQK.apply(qkv, scale), torch.stack([*expected, v], 2))


@pytest.mark.parametrize('half', [torch.bfloat16, torch.float16])
def test_directions_in_half_are_near_those_in_fp32(half):
    qkv, scale = torch.randn(3, 5, 3, 2, 8), torch.tensor([0.5, 10.])
    qkv[0, 0, 1] = 0  # the keys of padding
    grad = torch.randn(3, 5, 3, 2, 8)
    found = []
    for dtype in (torch.float32, half):
        given = [qkv.to(dtype).requires_grad_(), scale.requires_grad_()]
        out = NormalizeQK.apply(*given)
        found.append([out, *torch.autograd.grad(out, given, grad.to(dtype))])
    assert found[1][2].dtype == torch.float32  # as the parameter is
    for exact, rounded in zip(*found):
        assert (rounded - exact).norm() < 0.01 * exact.norm()
