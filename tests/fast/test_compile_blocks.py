"""A step with compiled blocks, against the same step without."""
import copy
import shutil

import pytest
import torch
from helpers.models import distillation, esvit_teacher, student, swin_student
from mmengine.registry import MODELS

from mmfd.fast.compile_blocks import compile_blocks, compile_whole
from mmfd.fast.fixed_shapes import FixedShape

compiler = pytest.mark.skipif(
    not (shutil.which('g++') or shutil.which('clang++')),
    reason='there is no C++ compiler')
# The graphs that a compiler gets, forward and backward, run without one
GRAPHS = dict(backend='aot_eager', dynamic=True)
FIXED = dict(GRAPHS, dynamic=False)


def vit(**kwargs):
    return distillation(backbone=student(drop_path_rate=0.3, **kwargs)), 32


def swin(**kwargs):
    return distillation(
        esvit_teacher(),
        backbone=swin_student(drop_path_rate=0.3, **kwargs),
        neck=dict(type='mmfd.ProjectionNeck', in_channels=96,
                  out_channels=64)), 64


def plain_and_compiled(config, options, compile_model=compile_blocks):
    plain = MODELS.build(config).train()
    plain.init_weights()
    compiled = copy.deepcopy(plain)
    assert compile_model(compiled, options)
    return plain, compiled


def as_on_a_gpu(model, options):
    """What `compile_blocks` does there with the blocks of a ViT."""
    blocks = [m for m in model.modules() if hasattr(m, 'fixed')]
    compile_whole(blocks, options)
    return blocks


def step(model, images, side):
    """Loss and gradients of random pixels."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, side, side)).float()
    loss = model.loss(pixels)['loss']
    model.zero_grad()
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters()}


def assert_same(ours, expected):
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-6, atol=1e-6)
    for name, grad in expected[1].items():
        torch.testing.assert_close(ours[1][name], grad, rtol=1e-4, atol=1e-6)


def check_same(plain, compiled, side):
    average = copy.deepcopy(compiled)  # as EMA makes one: with its own weights
    for images in 8, 12:  # and fewer where drop path draws
        assert_same(step(compiled, images, side), step(plain, images, side))
    with torch.no_grad():
        for weight in (*average.parameters(), *plain.parameters()):
            weight.mul_(0.5)
    assert_same(step(average, 8, side), step(plain, 8, side))


@pytest.mark.parametrize('options', [
    pytest.param(GRAPHS, id='graphs'),
    pytest.param(True, id='inductor', marks=[pytest.mark.full, compiler])
])
@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('network', [vit, swin])
def test_loss_and_gradients_are_those_without(network, with_cp, options):
    config, side = network(with_cp=with_cp)
    check_same(*plain_and_compiled(config, options), side)


@pytest.mark.parametrize('with_cp', [False, True])
def test_whole_blocks_have_the_numbers_of_those_that_leave_out(with_cp):
    config, side = vit(with_cp=with_cp)
    check_same(*plain_and_compiled(config, FIXED, as_on_a_gpu), side)


def test_a_compiled_teacher_has_the_same_target():
    teacher = MODELS.build(vit()[0]['teacher']).train()
    pixels = torch.rand(2, 3, 32, 32) * 255
    expected = teacher(pixels)
    teacher.compile_backbone(FIXED)
    torch.testing.assert_close(teacher(pixels), expected, rtol=1e-5, atol=1e-5)


def test_one_shape_is_compiled_and_in_training_alone():
    module, calls = torch.nn.Identity(), []

    def plain(module, x):
        calls.append(('plain', len(x)))

    def compiled(module, x):
        calls.append(('compiled', len(x)))

    call = FixedShape(module, plain, compiled)
    for training, images in (False, 3), (True, 4), (True, 3), (True, 4):
        module.train(training)
        call(torch.zeros(images, 1))
    assert calls == [('plain', 3), ('compiled', 4), ('plain', 3),
                     ('compiled', 4)]


@pytest.mark.full
@compiler
def test_gradients_in_bf16_are_near_those_without():
    config, side = vit()
    plain, compiled = plain_and_compiled(config, True)
    with torch.autocast('cpu', torch.bfloat16):
        ours, expected = (
            step(model, 4, side)[1] for model in (compiled, plain))
    for name, grad in expected.items():
        apart = (ours[name] - grad).norm()
        assert apart <= 0.05 * grad.norm(), name


def test_nothing_is_compiled_that_is_not_ours():
    assert not compile_blocks(torch.nn.Linear(4, 4), True)


def test_options_that_are_none_are_refused():
    model = MODELS.build(distillation())
    for options in dict(mode='fast'), dict(how=1), dict(backend='none'):
        with pytest.raises(ValueError, match='compile='):
            compile_blocks(model, options)
