"""Attention with a bias, against softmax written out and the host's."""
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.utils import WindowMSA
from torch import nn
from torch.overrides import TorchFunctionMode

from mmfd.fast.attention import attend_windows, attention, bias_of_pairs


def plain(qkv, bias, scale):
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    bias = bias.repeat(len(q) // len(bias), 1, 1, 1)
    out = (scale * q @ k.mT + bias).softmax(-1) @ v
    return out.transpose(1, 2).flatten(2)


def inputs(images=6, n=1, length=17):
    """q, k and v, and n biases, of two heads."""
    return [
        torch.randn(images, length, 3, 2, 8, requires_grad=True),
        torch.randn(n, 2, length, length, requires_grad=True)
    ]


def error(ours, theirs):
    return (ours - theirs).norm() / theirs.norm()


@pytest.mark.parametrize('n', [1, 3])  # one for all images; one per window
@pytest.mark.parametrize('chunk', [1, 2**20])  # images one by one; at once
def test_attention_and_its_gradients_are_those_of_the_formula(
        n, chunk, monkeypatch):
    monkeypatch.setattr('mmfd.fast.attention.SCORES_AT_ONCE', chunk)
    given = inputs(n=n)
    grad = torch.randn(6, 17, 16)
    out, expected = attention(*given, 0.3), plain(*given, 0.3)
    assert 'BiasedAttention' in type(out.grad_fn).__name__
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(
            torch.autograd.grad(out, given, grad),
            torch.autograd.grad(expected, given, grad)):
        torch.testing.assert_close(
            ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize('n', [1, 3])
def test_attention_in_bf16_is_near_that_in_fp32(n):
    qkv, bias = inputs(n=n)
    half = [qkv.detach().bfloat16().requires_grad_(), bias]
    grad = torch.randn(6, 17, 16)
    out, expected = attention(*half, 0.3), attention(qkv, bias, 0.3)
    assert out.dtype == torch.bfloat16
    assert error(out, expected) < 0.01  # an eighth bit is 0.004
    for ours, theirs in zip(
            torch.autograd.grad(out, half, grad.bfloat16()),
            torch.autograd.grad(expected, [qkv, bias], grad)):
        assert error(ours, theirs) < 0.01


def test_attention_keeps_no_scores():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.append(t.shape) or t, lambda t: t):
        attention(*inputs(images=6))
    assert (6, 2, 17, 17) not in kept and len(kept) == 2


def test_biases_are_the_rows_of_a_table_with_a_last_stride_of_one():
    """For another stride CUDA has no fused attention."""
    table = torch.randn(9, 2, requires_grad=True)
    index = torch.randint(9, (5, 5))
    plain = table[index].permute(2, 0, 1)
    bias, grad = bias_of_pairs(table, index), torch.randn(2, 5, 5)
    assert torch.equal(bias, plain) and bias.is_contiguous()
    ours, theirs = (
        torch.autograd.grad(x, table, grad)[0] for x in (bias, plain))
    assert torch.equal(ours, theirs)
    with torch.no_grad(), pytest.raises(AssertionError, match='fused'):
        attention(torch.randn(2, 5, 3, 2, 8), plain[None])


@pytest.mark.parametrize('masked', [True, False])
def test_windows_of_a_teacher_are_the_hosts(masked):
    windows = WindowMSA(24, (3, 3), 2).eval()
    nn.init.normal_(windows.relative_position_bias_table)
    mask = -100. * (torch.rand(4, 9, 9) > 0.7) if masked else None
    x = torch.randn(8, 9, 24)  # of two images
    with torch.no_grad():
        out, expected = attend_windows(windows, x, mask), windows(x, mask)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


def test_without_a_gradient_attention_is_pytorchs_own():
    seen = []

    class Seen(TorchFunctionMode):

        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    qkv, bias = inputs()
    with torch.no_grad(), Seen():
        out = attention(qkv, bias, 0.3)
    assert seen.count(F.scaled_dot_product_attention) == 1
    torch.testing.assert_close(out, attention(qkv, bias, 0.3))
