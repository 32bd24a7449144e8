"""Fused kernels that mmfd relies on, and the plain way without them."""
import pytest
import torch
import torch.nn.functional as F
from helpers.models import distillation
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.fast.packed_weights import PackedWeights
from mmfd.hosts import kernels, operations

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
        out = kernels.attention_on_cpu(q, k, v, bias, 0.3)
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
    kernels.softmax_backward_(grad, weights.detach())
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


def test_products_in_bf16_rely_on_onednns_own_answer_or_on_capabilities(
        take_away):
    ours = kernels.cpu_multiplies_bf16()
    assert isinstance(ours, bool)
    take_away(BF16)
    assert kernels.cpu_multiplies_bf16() == ours
    take_away('torch.cpu:get_capabilities')
    assert not kernels.cpu_multiplies_bf16()


@pytest.mark.parametrize('gelu', [False, True])
def test_packed_products_rely_on_onednns_reorder_and_pointwise(gelu):
    assert kernels.can_pack(torch.float32)
    assert not kernels.can_pack(torch.float64)
    x, weight, bias = (torch.randn(*size) for size in ((5, 8), (6, 8), (6, )))
    packed = kernels.pack(weight)
    assert packed.is_mkldnn
    expected = F.linear(x, weight, bias)
    torch.testing.assert_close(
        kernels.packed_linear(x, packed, bias, gelu),
        F.gelu(expected) if gelu else expected, **close)


@pytest.mark.parametrize('name', [PACK, LINEAR])
def test_without_packed_products_weights_are_multiplied_as_they_are(
        name, take_away):
    take_away(name)
    assert not kernels.can_pack(torch.float32)
    layer, x = torch.nn.Linear(8, 8).requires_grad_(False), torch.randn(4, 8)
    with PackedWeights(layer):
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def fused_on_cuda(device, columns, dtype=torch.bfloat16):
    """The operations of an attention that counts as CUDA's, and a gradient."""
    seen = []
    with operations.fake_tensors(), kernels.attention_as_on_cuda():
        q, k, v = torch.empty(3, 2, 4, 5, 16, device=device, dtype=dtype)
        bias = torch.empty(1, 4, 5, columns, device=device, dtype=dtype)
        bias.requires_grad_()
        with operations.every_operation(
                lambda func, *_: seen.append(func.overloadpacket.__name__)):
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias[..., :5])
            if device == 'cpu':
                out.sum().backward()
                assert bias.grad.shape == bias.shape
    assert out.shape == (2, 4, 5, 16) and out.dtype == dtype
    return seen


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_plans_rely_on_atens_fused_kernel_for_cuda(device, take_away):
    seen = fused_on_cuda(device, 5)
    assert '_scaled_dot_product_efficient_attention' in seen
    assert 'constant_pad_nd' in seen  # rows of 5 are not aligned
    assert 'constant_pad_nd' not in fused_on_cuda(device, 8)
    assert not {'_safe_softmax', '_softmax', 'bmm'} & {*seen}
    take_away('torch:ops.aten._scaled_dot_product_efficient_attention')
    with pytest.raises(Refused, match='has no torch:ops.aten._scaled_dot'):
        fused_on_cuda(device, 5)


def test_a_cpu_fuses_no_learnt_bias_but_in_a_plan_for_cuda():
    assert not kernels.fuses_learnt_bias(torch.device('cpu'))
    assert kernels.fuses_learnt_bias(torch.device('cuda'))
    with kernels.attention_as_on_cuda():
        assert kernels.fuses_learnt_bias(torch.device('cpu'))
    assert not kernels.fuses_learnt_bias(torch.device('cpu'))
