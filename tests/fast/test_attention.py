"""Attention, drop path and precision of the students, against plain ones."""
import pytest
import torch
import torch.nn.functional as F
from helpers.models import arch, distillation, student
from mmcv.cnn.bricks import DropPath
from mmengine.registry import MODELS
from mmpretrain.models.utils import WindowMSA
from torch import nn

from mmfd.fast.attention import BiasedAttention, attend_windows, attention
from mmfd.fast.cosine_attention import NormalizeQK
from mmfd.fast.drop_path import residual


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
        assert error(rounded, exact) < 0.01


def test_attention_keeps_no_scores():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.append(t.shape) or t, lambda t: t):
        attention(*inputs(images=6))
    assert (6, 2, 17, 17) not in kept and len(kept) == 2


def test_without_a_gradient_attention_is_pytorchs_own():
    seen = []

    class Watch(torch.overrides.TorchFunctionMode):

        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    model = MODELS.build(student())
    model.init_weights()
    with torch.no_grad(), Watch():
        model.eval()(torch.randn(2, 3, 32, 32))
    assert seen.count(F.scaled_dot_product_attention) == 3
    assert BiasedAttention.apply not in seen


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


@pytest.mark.parametrize('masked', [True, False])
def test_windows_of_a_teacher_are_the_hosts(masked):
    windows = WindowMSA(24, (3, 3), 2).eval()
    nn.init.normal_(windows.relative_position_bias_table)
    mask = -100. * (torch.rand(4, 9, 9) > 0.7) if masked else None
    x = torch.randn(8, 9, 24)  # of two images
    with torch.no_grad():
        out, expected = attend_windows(windows, x, mask), windows(x, mask)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


def test_step_in_bf16_is_near_that_in_fp32():
    model = MODELS.build(distillation(backbone=student(arch=arch(48, 3, 3))))
    model.init_weights()
    pixels = torch.randint(0, 256, (8, 3, 32, 32)).float()
    found = []
    for bf16 in (False, True):
        model.train().zero_grad()
        with torch.autocast('cpu', torch.bfloat16, bf16):
            loss = model.loss(pixels)['loss']
        loss.backward()
        found.append(
            (loss.detach(),
             [p.grad.flatten() for p in model.parameters() if p.ndim > 1]))
    (loss, grads), (half, half_grads) = found
    assert abs(half - loss) < 2e-3 * loss
    grads, half_grads = torch.cat(grads), torch.cat(half_grads)
    assert (half_grads - grads).norm() < 0.05 * grads.norm()
