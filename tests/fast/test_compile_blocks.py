"""A step with compiled blocks, against the same step without."""
import copy
import shutil

import pytest
import torch
from helpers.models import distillation, esvit_teacher, student, swin_student
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.fast.compile_blocks import compile_blocks
from mmfd.launch.config_checks import check_sharding

compiler = pytest.mark.skipif(
    not (shutil.which('g++') or shutil.which('clang++')),
    reason='there is no C++ compiler')


def vit(**kwargs):
    return distillation(backbone=student(drop_path_rate=0.5, **kwargs)), 32


def swinv2(**kwargs):
    return distillation(
        esvit_teacher(),
        backbone=swin_student(drop_path_rate=0.5, **kwargs),
        neck=dict(type='mmfd.ProjectionNeck', in_channels=96,
                  out_channels=64)), 64


def step(model, images, side):
    """Loss and gradients of random pixels."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, side, side)).float()
    loss = model.loss(pixels)['loss']
    model.zero_grad()
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters()}


def same(ours, expected):
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-6, atol=1e-6)
    for name, grad in expected[1].items():
        torch.testing.assert_close(ours[1][name], grad, rtol=1e-4, atol=1e-6)


@compiler
@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('network', [vit, swinv2])
def test_loss_and_gradients_are_those_without(network, with_cp):
    config, side = network(with_cp=with_cp)
    plain = MODELS.build(config).train()
    plain.init_weights()
    ours = copy.deepcopy(plain)
    assert compile_blocks(ours, True)
    average = copy.deepcopy(ours)  # as EMA makes one: with its own weights
    for images in 4, 6, 5:  # and fewer where drop path draws
        same(step(ours, images, side), step(plain, images, side))
    with torch.no_grad():
        for weight in average.parameters():
            weight.mul_(0.5)
        for weight in plain.parameters():
            weight.mul_(0.5)
    same(step(average, 4, side), step(plain, 4, side))


@compiler
def test_gradients_in_bf16_are_near_those_without():
    config, side = vit()
    plain = MODELS.build(config).train()
    plain.init_weights()
    ours = copy.deepcopy(plain)
    assert compile_blocks(ours, True)
    with torch.autocast('cpu', torch.bfloat16):
        (_, found), (_, expected) = (
            step(model, 4, side) for model in (ours, plain))
    for name, grad in expected.items():
        apart = (found[name] - grad).norm()
        assert apart <= 0.05 * grad.norm(), name


def test_nothing_is_compiled_that_is_not_ours():
    assert not compile_blocks(torch.nn.Linear(4, 4), True)


def test_options_that_are_none_are_refused():
    model = MODELS.build(distillation())
    for options in dict(mode='fast'), dict(how=1), dict(backend='none'):
        with pytest.raises(ValueError, match='compile='):
            compile_blocks(model, options)


def test_shards_are_not_compiled():
    cfg = Config(
        dict(
            launcher='pytorch',
            compile=True,
            model={},
            model_wrapper_cfg=dict(type='mmfd.FullySharded')))
    with pytest.raises(ValueError, match='compile=True needs whole weights'):
        check_sharding(cfg)
    cfg.compile = False
    check_sharding(cfg)
