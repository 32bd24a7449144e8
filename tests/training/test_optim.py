"""Parameter groups, mixed precision, and LARS against the official one."""
import pytest
import torch
from helpers.models import distillation
from mmengine.registry import MODELS, OPTIM_WRAPPERS

from mmfd.training.optim import (LARS, AmpOptimWrapper,
                                 LayerDecayOptimWrapperConstructor)


def test_unknown_setting_of_the_groups_is_refused_by_name():
    with pytest.raises(ValueError, match="layer_deacy.*'layer_decay'"):
        LayerDecayOptimWrapperConstructor(
            dict(optimizer=dict(type='AdamW', lr=1)), dict(layer_deacy=.5))


def wrapper(model, dtype, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return OPTIM_WRAPPERS.build(
        dict(
            type='mmfd.AmpOptimWrapper',
            dtype=dtype,
            optimizer=optimizer,
            **kwargs))


@pytest.mark.parametrize('dtype, bound', [('bfloat16', 2e-2),
                                          ('float16', 3e-3)])
def test_mixed_precision_steps_on_a_cpu_near_the_fp32_step(dtype, bound):
    model = MODELS.build(distillation())
    model.init_weights()
    pixels = torch.randint(0, 256, (4, 3, 32, 32)).float()
    expected = torch.autograd.grad(
        model.loss(pixels)['loss'], model.neck.projection.weight)[0]
    before = model.neck.projection.weight.detach().clone()
    optim = wrapper(model, dtype, clip_grad=dict(max_norm=1e6))
    with optim.optim_context(model):
        target = model.teacher(pixels)
        loss = model.loss(pixels)['loss']
    assert target.dtype is loss.dtype is torch.float32
    optim.update_params(loss)
    step = (before - model.neck.projection.weight.detach()) / 0.1
    assert (step - expected).norm() < bound * expected.norm()


def test_loss_scale_survives_a_checkpoint():
    model = torch.nn.Linear(2, 2)
    first, second = (wrapper(model, 'float16') for _ in range(2))
    first.scaler._init_scale = 128.
    first.scaler.scale(torch.ones(1))
    second.load_state_dict(first.state_dict())
    assert second.scaler.get_scale() == 128.


def test_an_infinite_gradient_is_skipped_and_the_scale_halved():
    model = torch.nn.Linear(2, 2)
    optim = wrapper(model, 'float16')
    before = model.weight.detach().clone()
    optim.update_params(model(torch.full((1, 2), float('inf'))).sum())
    assert torch.equal(model.weight, before)
    assert optim.scaler.get_scale() == 2.**15


def test_decay_that_a_config_leaves_out_is_the_optimizers_own():
    model = MODELS.build(distillation())
    for given, expected in ({}, .01), (dict(weight_decay=.3), .3):
        constructor = LayerDecayOptimWrapperConstructor(
            dict(optimizer=dict(type='AdamW', **given)))
        groups = constructor(model).optimizer.param_groups
        assert [group['weight_decay'] for group in groups] == [0., expected]
        assert {group['lr'] for group in groups} == {1e-3}  # AdamW's
    with pytest.raises(ValueError, match='set optim_wrapper.optimizer.lr'):
        LayerDecayOptimWrapperConstructor(
            dict(optimizer=dict(type='AdamW')), dict(layer_decay=.5))


def test_precision_may_change_on_resume():
    model = torch.nn.Linear(2, 2)
    for old, new in [('bfloat16', 'float16'), ('float16', 'bfloat16')]:
        wrapper(model, new).load_state_dict(wrapper(model, old).state_dict())


# What the official LARS (MoCo v3's) makes of a matrix, of one that starts at
# zero and of a bias in 20 steps of `lars`, in fp64.
OFFICIAL_LARS = [
    [-0.961452565, -0.601417443, -0.199873998,
     0.214955312, 0.602633066, 0.947684859],
    [0.122699931, -20.495560197, -22.2702968, -3.56982523],
    [-8.784182708, 9.657207608],
]  # yapf: disable


def lars(steps, optimizer=None, params=None):
    """Steps of growing lr and wavy gradients."""
    params = params or [
        torch.nn.Parameter(start.double())
        for start in ((torch.arange(6.).double().view(2, 3) * 2 - 5) / 5,
                      torch.zeros(2, 2), torch.tensor([.5, -.5]))
    ]
    optimizer = optimizer or LARS(params, lr=1., weight_decay=.1)
    for t in steps:
        optimizer.param_groups[0]['lr'] = 10 * (t + 1) / 20
        for param, wave in zip(params, (torch.sin, torch.sin, torch.cos)):
            phase = (2 if param.shape == (2, 2) else 1) * t
            angles = phase + torch.arange(param.numel()).double()
            param.grad = wave(angles).view_as(param)
        optimizer.step()
    return optimizer, params


def test_lars_of_20_steps_equals_the_official_one():
    _, params = lars(range(20))
    for param, expected in zip(params, OFFICIAL_LARS):
        assert param.flatten().tolist() == pytest.approx(expected, abs=1e-8)


def test_lars_goes_on_where_it_was():
    optimizer, params = lars(range(7))
    again = LARS(params, lr=3.)
    again.load_state_dict(optimizer.state_dict())
    _, params = lars(range(7, 20), again, params)
    for param, expected in zip(params, OFFICIAL_LARS):
        assert param.flatten().tolist() == pytest.approx(expected, abs=1e-8)


def test_lars_steps_by_the_norm_of_the_matrix_whatever_the_gradient():
    for gradient in 1e-6, 1e6:
        weight = torch.nn.Parameter(torch.full((2, 8), .25))  # norm 1
        weight.grad = torch.full((2, 8), gradient)
        LARS([weight], lr=6.4).step()
        step = weight.detach() - .25
        assert step.norm().item() == pytest.approx(6.4e-3, rel=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason='of a CPU')
@pytest.mark.parametrize('native', [True, False])
@pytest.mark.parametrize('dtype, expected', [
    (None, 'does not support bf16: training in torch.float32'),
    ('bfloat16', 'leave out dtype to train in torch.float32'),
])
def test_log_says_where_there_is_no_bf16(monkeypatch, dtype, expected, native,
                                         warned):
    monkeypatch.setattr('mmfd.hosts.kernels.cpu_multiplies_bf16',
                        lambda: native)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=1.)
    wrapper = AmpOptimWrapper(dtype=dtype, optimizer=optimizer)
    fp32 = dtype is None and not native
    assert wrapper.dtype is (torch.float32 if fp32 else torch.bfloat16)
    assert len(warned) == (not native)
    assert all(expected in text for text in warned)
