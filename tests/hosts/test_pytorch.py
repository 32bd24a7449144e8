"""What mmfd relies on in PyTorch, and the safe answer where it has gone."""
from typing import NamedTuple

import pytest
import torch
from helpers.models import small_teacher
from mmengine.registry import MODELS
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.launcher import api
from torch.utils.checkpoint import checkpoint

from mmfd.errors import Refused
from mmfd.fast.packed_weights import PackedWeights
from mmfd.fast.recompute import normed
from mmfd.hosts import pytorch
from mmfd.hosts.lookup import find

HOOKS = 'torch:_C._autograd._top_saved_tensors_default_hooks'


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
