"""What counting relies on in PyTorch."""
import pytest
import torch
import torch.nn.functional as F

from mmfd.errors import Refused
from mmfd.hosts import operations


def worked(device):
    """(operation, flops, cast) of all that a small network does."""
    seen = []

    def see(func, args, kwargs, out):
        flops = operations.flops_of(func, args, kwargs, out)
        seen.append((func, flops, operations.is_cast(func)))

    with operations.fake_tensors():
        x = torch.empty(2, 5, 8, device=device)
        weight = torch.empty(6, 8, device=device, requires_grad=True)
        qkv = torch.empty(3, 2, 4, 5, 16, device=device)
        with operations.every_operation(see):
            with operations.autocast_anywhere(device, torch.bfloat16):
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
    with operations.fake_tensors():
        with operations.real_tensors():
            assert torch.arange(3).tolist() == [0, 1, 2]
    with operations.real_tensors():
        assert torch.arange(3).tolist() == [0, 1, 2]
    take_away('torch._subclasses.fake_tensor:unset_fake_temporarily')
    with operations.real_tensors():
        assert torch.arange(3).tolist() == [0, 1, 2]
