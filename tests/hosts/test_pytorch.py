"""What mmfd relies on in PyTorch, and the plain way where it has gone."""
import pytest
import torch
import torch.nn.functional as F
from helpers.models import distillation
from mmengine.registry import MODELS
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from mmfd.fast.packed_weights import PackedWeights
from mmfd.fast.recompute import normed
from mmfd.hosts import pytorch

ATTENTION = 'torch:ops.aten._scaled_dot_product_flash_attention_for_cpu'
SOFTMAX = 'torch:_softmax_backward_data'
HOOKS = 'torch:_C._autograd._top_saved_tensors_default_hooks'
BF16 = 'torch:ops.mkldnn._is_mkldnn_bf16_supported'
PACK = 'torch:ops.mkldnn._reorder_linear_weight'
LINEAR = 'torch:ops.mkldnn._linear_pointwise'
close = dict(rtol=1e-5, atol=1e-5)


def plain_attention(q, k, v, bias, scale):
    return (scale * q @ k.mT + bias).softmax(-1) @ v


@pytest.mark.parametrize('gone', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_attention_relies_on_atens_fused_kernel_for_cpus(
        gone, dtype, take_away):
    if gone:
        take_away(ATTENTION)
    q, k, v = (torch.randn(2, 3, 7, 8).to(dtype) for _ in range(3))
    bias = torch.randn(1, 3, 7, 7, requires_grad=True)
    with torch.no_grad():
        out = pytorch.attention_on_cpu(q, k, v, bias, 0.3)
        expected = plain_attention(q.float(), k.float(), v.float(), bias, 0.3)
    assert out.dtype == dtype
    bound = close if dtype is torch.float32 else dict(rtol=0.02, atol=0.02)
    torch.testing.assert_close(out.float(), expected, **bound)


@pytest.mark.parametrize('gone', [False, True])
def test_softmax_backward_relies_on_torch_softmax_backward_data(
        gone, take_away):
    if gone:
        take_away(SOFTMAX)
    scores = torch.randn(3, 5, 7, requires_grad=True)
    weights, grad = scores.softmax(-1), torch.randn(3, 5, 7)
    expected, = torch.autograd.grad(weights, scores, grad)
    pytorch.softmax_backward_(grad, weights.detach())
    torch.testing.assert_close(grad, expected, **close)


def step(model, pixels):
    loss = model.loss(pixels)['loss']
    return [loss, *torch.autograd.grad(loss, [*model.parameters()])]


def test_a_step_without_the_private_calls_has_the_same_loss_and_gradients(
        take_away):
    model = MODELS.build(distillation()).train()
    model.init_weights()
    pixels = torch.randint(0, 256, (4, 3, 32, 32)).float()
    ours = step(model, pixels)
    for name in (ATTENTION, SOFTMAX, HOOKS, BF16, PACK, LINEAR,
                 'torch:Tensor._version', 'torch:UntypedStorage._cdata'):
        take_away(name)
    model.teacher.weights_replaced()
    for plain, fast in zip(step(model, pixels), ours, strict=True):
        torch.testing.assert_close(plain, fast, **close)


def test_the_version_of_a_tensor_counts_writes_and_is_shared_by_views():
    tensor = torch.zeros(4)
    before = pytorch.version_of(tensor)
    assert pytorch.version_of(tensor.view(2, 2)) == before
    tensor[1] = 1
    assert pytorch.version_of(tensor) != before


def test_weights_whose_version_is_not_known_are_copied_in_every_call(
        take_away):
    take_away('torch:Tensor._version')
    layer, x = torch.nn.Linear(8, 8).requires_grad_(False), torch.randn(4, 8)
    with PackedWeights(layer):
        before = layer(x)
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x) - before, x @ layer.weight.T / 2)


def test_views_have_one_storage_and_copies_another():
    tensor = torch.zeros(4)
    storage = pytorch.storage_of(tensor)
    assert pytorch.storage_of(tensor[2:].view(2, 1)) == storage
    assert pytorch.storage_of(tensor.clone()) != storage


@pytest.mark.parametrize(
    'name', ['torch:Tensor._version', 'torch:UntypedStorage._cdata', HOOKS])
def test_what_is_not_known_to_be_the_same_is_saved(name, take_away):
    take_away(name)
    norm, saved = torch.nn.LayerNorm(8), []
    with saved_tensors_hooks(lambda t: saved.append(t.shape) or t,
                             lambda t: t):
        normed(norm, torch.randn(2, 3, 8), lambda x: x.exp().square())
    assert saved.count((2, 3, 8)) >= 2  # of the norm's output, too


def test_hooks_of_saved_tensors_are_seen_where_others_set_them():
    assert not pytorch.saved_tensors_hooks_in_force()
    with saved_tensors_hooks(len, abs):
        assert pytorch.saved_tensors_hooks_in_force() == (len, abs)
    seen = []

    def block(x):
        seen.append(bool(pytorch.saved_tensors_hooks_in_force()))
        return x.exp()

    x = torch.ones(2, requires_grad=True)
    checkpoint(block, x, use_reentrant=False).sum().backward()
    assert seen[0]


def test_hooks_that_pytorch_does_not_tell_of_are_taken_to_be_there(take_away):
    take_away(HOOKS)
    assert pytorch.saved_tensors_hooks_in_force()


def test_products_in_bf16_rely_on_onednns_own_answer_or_on_capabilities(
        take_away):
    ours = pytorch.cpu_multiplies_bf16()
    assert isinstance(ours, bool)
    take_away(BF16)
    assert pytorch.cpu_multiplies_bf16() == ours
    take_away('torch.cpu:get_capabilities')
    assert not pytorch.cpu_multiplies_bf16()


@pytest.mark.parametrize('gelu', [False, True])
def test_packed_products_rely_on_onednns_reorder_and_pointwise(gelu):
    assert pytorch.can_pack(torch.float32)
    assert not pytorch.can_pack(torch.float64)
    x, weight, bias = (torch.randn(*size) for size in ((5, 8), (6, 8), (6, )))
    packed = pytorch.pack(weight)
    assert packed.is_mkldnn
    expected = F.linear(x, weight, bias)
    torch.testing.assert_close(
        pytorch.packed_linear(x, packed, bias, gelu),
        F.gelu(expected) if gelu else expected, **close)


@pytest.mark.parametrize('name', [PACK, LINEAR])
def test_without_packed_products_weights_are_multiplied_as_they_are(
        name, take_away):
    take_away(name)
    assert not pytorch.can_pack(torch.float32)
    layer, x = torch.nn.Linear(8, 8).requires_grad_(False), torch.randn(4, 8)
    with PackedWeights(layer):
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_a_trial_of_the_compiler_relies_on_the_switch_of_inductors_caches(
        take_away):
    from torch._inductor import config
    before = config.force_disable_caches
    with pytorch.compiled_anew():
        assert config.force_disable_caches
    assert config.force_disable_caches == before
    take_away('torch._inductor.config:patch')
    with pytorch.compiled_anew():  # nothing is turned, and nothing breaks
        assert config.force_disable_caches == before
