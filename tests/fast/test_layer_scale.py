"""Layer scale in the weights, against layer scale after the product."""
import pytest
import torch
from torch import nn

from mmfd.fast.layer_scale import scaled_linear


def grads(out, *tensors):
    return torch.autograd.grad(out.float().square().sum(), tensors)


@pytest.mark.parametrize('tokens', [4, 64])  # fewer than inputs; more
def test_values_and_gradients_are_those_of_scaled_tokens(tokens):
    layer = nn.Linear(16, 8)
    x = torch.randn(2, tokens // 2, 16, requires_grad=True)
    gamma = torch.linspace(-1, 1, 8).requires_grad_()
    given = x, gamma, layer.weight, layer.bias
    ours, theirs = scaled_linear(layer, x, gamma), gamma * layer(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for grad, expected in zip(grads(ours, *given), grads(theirs, *given)):
        torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(scaled_linear(layer, x), layer(x))


def test_where_tokens_are_many_none_is_kept_for_gamma():
    layer, gamma = nn.Linear(16, 8), torch.ones(8, requires_grad=True)

    def kept(tokens):
        """Shapes that are kept beside the weights and the input."""
        seen = []
        x = torch.randn(tokens, 16)
        with torch.autograd.graph.saved_tensors_hooks(
                lambda t: seen.append(tuple(t.shape)), lambda _: None):
            scaled_linear(layer, x, gamma)
        return seen

    assert (4, 8) in kept(4) and (64, 8) not in kept(64)


def test_a_small_gamma_is_not_lost_in_fp16():
    layer = nn.Linear(16, 8).half()
    nn.init.constant_(layer.weight, 2**-6)
    nn.init.zeros_(layer.bias)
    gamma = torch.full((8, ), 2.**-18, dtype=torch.half)
    x = torch.full((64, 16), 8., dtype=torch.half)
    out = scaled_linear(layer, x, gamma)  # 2^-24 at least is representable
    assert torch.equal(out, torch.full((64, 8), 2.**-17, dtype=torch.half))
    assert not (gamma * 2**-8 * layer.weight[0, 0]).any()
