"""What mmfd relies on in PyTorch, and the plain way where it has gone."""
import socket
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from helpers.models import distillation, small_teacher
from mmengine.registry import MODELS
from torch import distributed
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.launcher import api
from torch.utils.checkpoint import checkpoint

from mmfd.errors import Refused
from mmfd.fast.packed_weights import PackedWeights
from mmfd.fast.recompute import normed
from mmfd.hosts import pytorch
from mmfd.hosts.lookup import find

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


def overflowing_step(fused):
    """What a hook before the step of an infinite gradient is told."""
    param = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([param], fused=fused)
    told = []
    optimizer.register_step_pre_hook(lambda optimizer, *_: told.append(
        pytorch.infinite_gradients(optimizer)))
    scaler = torch.amp.GradScaler('cpu')
    scaler.scale((param * torch.inf).sum()).backward()
    scaler.step(optimizer)
    return told


def test_infinite_gradients_rely_on_found_inf_in_the_step_of_a_fused_optimizer(
):
    told, = overflowing_step(fused=True)
    assert told.item() == 1
    assert overflowing_step(fused=False) == []  # whose step is left out
    assert pytorch.infinite_gradients(
        torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])) is None


def worked(device):
    """(operation, flops, cast) of all that a small network does."""
    seen = []

    def see(func, args, kwargs, out):
        seen.append((func, pytorch.flops_of(func, args, kwargs,
                                            out), pytorch.is_cast(func)))

    with pytorch.fake_tensors():
        x = torch.empty(2, 5, 8, device=device)
        weight = torch.empty(6, 8, device=device, requires_grad=True)
        qkv = torch.empty(3, 2, 4, 5, 16, device=device)
        with pytorch.every_operation(see):
            with pytorch.autocast_anywhere(device, torch.bfloat16):
                y = F.linear(x, weight)
                F.scaled_dot_product_attention(*qkv)
            assert y.dtype is torch.bfloat16 and y.device.type == device
            if device == 'cpu':
                y.sum().backward()
    assert not torch.is_autocast_enabled(device)
    return seen


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_counting_relies_on_fake_tensors_dispatch_modes_and_flop_formulas(
        device):
    seen = worked(device)
    product = 2 * 2 * 5 * 8 * 6
    attention = 2 * 2 * (2 * 4 * 5 * 5 * 16)
    products = 2 if device == 'cpu' else 1  # and its gradient
    assert sum(flops for _, flops, _ in seen) == (
        products * product + attention)
    assert sum(cast for *_, cast in seen) >= 2  # of x and of the weight


def fused_on_cuda(device, columns, dtype=torch.bfloat16):
    """The operations of an attention that counts as CUDA's, and a gradient."""
    seen = []
    with pytorch.fake_tensors(), pytorch.attention_as_on_cuda():
        q, k, v = torch.empty(3, 2, 4, 5, 16, device=device, dtype=dtype)
        bias = torch.empty(1, 4, 5, columns, device=device, dtype=dtype)
        bias.requires_grad_()
        with pytorch.every_operation(
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
    assert not pytorch.fuses_learnt_bias(torch.device('cpu'))
    assert pytorch.fuses_learnt_bias(torch.device('cuda'))
    with pytorch.attention_as_on_cuda():
        assert pytorch.fuses_learnt_bias(torch.device('cpu'))
    assert not pytorch.fuses_learnt_bias(torch.device('cpu'))


@pytest.mark.parametrize('gone', [
    'torch._subclasses.fake_tensor:FakeTensorMode',
    'torch.utils._python_dispatch:TorchDispatchMode',
    'torch.utils.flop_counter:flop_registry',
])
def test_counting_without_what_it_relies_on_names_the_version(gone, take_away):
    take_away(gone)
    with pytest.raises(
            Refused, match=fr'^torch 2\.\S+ has no {gone}: pip install '):
        worked('cpu')


def test_real_tensors_among_fake_ones_rely_on_unset_fake_temporarily(
        take_away):
    with pytorch.fake_tensors():
        with pytorch.real_tensors():
            assert torch.arange(3).tolist() == [0, 1, 2]
    with pytorch.real_tensors():
        assert torch.arange(3).tolist() == [0, 1, 2]
    take_away('torch._subclasses.fake_tensor:unset_fake_temporarily')
    with pytorch.real_tensors():
        assert torch.arange(3).tolist() == [0, 1, 2]


def test_missing_processes_rely_on_the_text_of_the_time_out():
    text = 'Timed out waiting 1500ms for recv operation to complete'
    assert pytorch.timeout_of(RuntimeError(text)) == 1.5
    assert pytorch.timeout_of(RuntimeError('out of memory')) is None


def test_a_port_in_use_relies_on_eaddrinuse_in_the_text():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        with pytest.raises(distributed.DistNetworkError) as raised:
            distributed.TCPStore(
                '127.0.0.1', taken.getsockname()[1], is_master=True)
    assert pytorch.port_in_use(raised.value)


def test_sigusr1_relies_on_signals_to_handle_of_launch_config(take_away):
    sizes = dict(min_nodes=1, max_nodes=1, nproc_per_node=2)
    assert 'SIGUSR1' in pytorch.launch_config(**sizes).signals_to_handle

    class Older(NamedTuple):
        min_nodes: int
        max_nodes: int
        nproc_per_node: int

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, 'LaunchConfig', Older)
        find.cache_clear()
        assert pytorch.launch_config(**sizes) == Older(1, 1, 2)
    find.cache_clear()


class Broken(torch.utils.data.Dataset):

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise Refused('this image: and that')


@pytest.mark.parametrize('workers', [0, 1])
def test_a_workers_message_relies_on_the_end_of_the_text_it_is_raised_with(
        workers):
    try:
        next(iter(torch.utils.data.DataLoader(Broken(), num_workers=workers)))
    except Refused as error:
        text, message = str(error), pytorch.message_of(error)
        error.__traceback__ = None  # or the worker ends 5 s later
    assert ('Traceback' in text) == bool(workers)
    assert message == 'this image: and that'


def test_sizes_that_differ_rely_on_the_text_of_load_state_dict():
    wide, narrow = torch.nn.Linear(4, 3), torch.nn.Linear(2, 3)
    with pytest.raises(RuntimeError) as raised:
        narrow.load_state_dict(wide.state_dict())
    found = pytorch.shape_mismatches(raised.value)
    assert found == [('weight', '[3, 4]', '[3, 2]')]
    assert pytorch.shape_mismatches(RuntimeError('other')) == []


@pytest.mark.parametrize('move', [
    lambda module: module.to(torch.float64),
    lambda module: module.half(),
    lambda module: module.to_empty(device='meta'),
    lambda module: module.share_memory(),
])
def test_a_teacher_relies_on_every_move_of_a_module_calling_apply(
        move, monkeypatch):
    calls = []

    class Hidden(torch.nn.Linear):

        def _apply(self, fn, recurse=True):
            calls.append(fn)
            return super()._apply(fn, recurse)

    move(torch.nn.Sequential(Hidden(2, 2)))
    assert len(calls) == 1


def test_a_teacher_of_a_pytorch_whose_moves_are_others_is_refused(monkeypatch):
    monkeypatch.delattr(torch.nn.Module, '_apply')
    with pytest.raises(Refused, match=r'^torch 2\.\S+ has no Module._apply'):
        MODELS.build(small_teacher('dino_vitb16'))


def test_versions_in_a_state_dict_are_those_that_loading_is_told():
    told = []

    class Module(torch.nn.Module):
        _version = 7

        def _load_from_state_dict(self, state_dict, prefix, metadata, *rest):
            told.append(metadata)

    weights = Module().state_dict()
    assert pytorch.module_versions(weights) == {'': dict(version=7)}
    assert pytorch.module_versions({}) == {}
    pytorch.set_module_versions(weights, {'': dict(version=3)})
    Module().load_state_dict(weights)
    assert told[0]['version'] == 3
