"""The teacher: frozen, hidden, with its own statistics and input size."""
import copy
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers.models import (clip_teacher, distillation, pixels, small_teacher,
                            student)
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS
from safetensors.torch import save_file

from mmfd.errors import Refused
from mmfd.weights import checkpoints, strict_loading


@pytest.fixture
def model():
    return MODELS.build(distillation())


def test_teacher_sees_clip_statistics_whatever_the_student_sees(model):
    seen = []
    model.teacher.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(args[0]))
    x = pixels()
    model.loss(x)
    mean = torch.tensor([.48145466, .4578275, .40821073]).view(3, 1, 1)
    std = torch.tensor([.26862954, .26130258, .27577711]).view(3, 1, 1)
    torch.testing.assert_close(seen[0], (x / 255 - mean) / std)


def test_teacher_stays_in_eval_when_model_trains(model):
    model.train()
    assert model.backbone.training
    assert not any(m.training for m in model.teacher.backbone.modules())


def test_teacher_is_in_no_parameters_checkpoint_or_average(model):
    names = [name for name, _ in model.named_parameters()]
    assert {n.split('.')[0] for n in names} == {'backbone', 'neck'}
    assert {k.split('.')[0]
            for k in model.state_dict()} == {'backbone', 'neck'}
    average = ExponentialMovingAverage(model)
    assert average.module.teacher.backbone is model.teacher.backbone
    assert copy.deepcopy(model).backbone is not model.backbone


def test_teacher_gets_no_gradient_and_student_does(model):
    model.loss(pixels())['loss'].backward()
    assert all(p.grad is None for p in model.teacher.backbone.parameters())
    assert all(p.grad is not None for p in model.parameters())


def test_teacher_follows_the_model_to_another_dtype(model):
    model.double()
    assert model.teacher.backbone.cls_token.dtype is torch.float64
    assert model.teacher.normalize.mean.dtype is torch.float64


def test_teacher_sees_pixels_at_its_own_resolution():
    model = MODELS.build(
        distillation(
            clip_teacher(img_size=32),
            backbone=student(img_size=64, patch_size=16)))
    x = pixels(size=64)
    shrunk = F.interpolate(x, (32, 32), mode='bilinear', antialias=True)
    assert torch.equal(model.teacher(x), model.teacher(shrunk))
    assert model.loss(x)['loss'] > 0


def test_pixels_are_resized_without_antialiasing_where_the_official_are():
    x = pixels(size=37)
    for antialias in (True, False):
        model = MODELS.build(
            distillation(clip_teacher(img_size=32, antialias=antialias)))
        resized = F.interpolate(
            x, (32, 32), mode='bilinear', antialias=antialias)
        assert torch.equal(model.teacher(x), model.teacher(resized))


def test_positions_of_another_grid_are_resized_where_it_is_asked_for(tmp_path):
    file = tmp_path / 'clip.pth'
    weights = MODELS.build(clip_teacher()).backbone.state_dict()
    torch.nn.init.normal_(weights['pos_embed'])
    checkpoints.save(weights, file, {})
    larger = clip_teacher(file)
    larger.backbone.img_size = 48
    with pytest.raises(
            Refused, match='Set arch, .*, or teacher.resize_positions=True'):
        MODELS.build(larger)
    larger.resize_positions = True
    patches = weights['pos_embed'][:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    patches = F.interpolate(  # as the official `clip/model.py`
        patches, (6, 6),
        mode='bicubic',
        align_corners=False)
    torch.testing.assert_close(
        MODELS.build(larger).backbone.pos_embed[:, 1:],
        patches.flatten(2).transpose(1, 2))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_teacher_published_in_half_precision_is_taken_and_said(
        dtype, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(strict_loading.log, 'info', said.append)
    file = tmp_path / 'clip.pth'
    weights = MODELS.build(clip_teacher()).backbone.state_dict()
    checkpoints.save({k: v.to(dtype) for k, v in weights.items()}, file, {})
    backbone = MODELS.build(clip_teacher(file)).backbone
    assert torch.equal(backbone.cls_token, weights['cls_token'].to(dtype))
    assert backbone.cls_token.dtype == torch.float32
    assert f'are in {dtype}, and used in fp32' in said[0]


def test_map_of_a_teacher_holds_its_patch_tokens():
    """In row-major order, as a convolution's."""
    model = MODELS.build(distillation())
    x = pixels()
    tokens = model.teacher(x)
    model.teacher.backbone.out_type = 'featmap'
    torch.testing.assert_close(model.teacher(x), tokens[:, 1:])


def test_drop_path_of_the_teacher_is_on_only_while_the_model_trains():
    rate, samples = 0.4, 600
    teacher = clip_teacher(drop_path_rate=rate)
    model = MODELS.build(distillation(teacher))
    ours, dropped = model.teacher, []
    last = ours.backbone.layers[-1].attn.out_drop  # at the highest rate

    def watch(module, args, out):
        gone = out.abs().amax((1, 2)) == 0
        torch.testing.assert_close(out[~gone], (args[0] / (1 - rate))[~gone])
        dropped.append(gone.float().mean())

    handle = last.register_forward_hook(watch)
    x = pixels(1).expand(samples, -1, -1, -1)
    model.train()
    on = [m for m in ours.backbone.modules() if m.training]
    assert {type(m).__name__ for m in on} == {'DropPath'}
    assert len(on) == 2 * 3  # both branches of three blocks
    noisy = ours(x)
    assert abs(dropped[0] - rate) < 4 * math.sqrt(rate * (1 - rate) / samples)
    assert len(noisy.unique(dim=0)) > 10
    handle.remove()
    model.eval()
    assert not any(m.training for m in ours.backbone.modules())
    assert torch.equal(ours(x[:2])[0], ours(x[:2])[1])


def test_teacher_drops_nothing_without_its_own_drop_path_rate():
    teacher = clip_teacher()
    teacher.backbone.drop_path_rate = 0.4  # as its own training had it
    model = MODELS.build(distillation(teacher)).train()
    assert not any(m.training for m in model.teacher.backbone.modules())


def test_teacher_of_a_library_has_its_statistics_size_and_weights(tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model(
        'vit_small_patch16_dinov3', num_classes=0, depth=1,
        img_size=64).eval()
    file = tmp_path / 'dinov3.safetensors'
    save_file(theirs.state_dict(), file)
    teacher = MODELS.build(
        dict(
            type='mmfd.Teacher',
            checkpoint=str(file),
            backbone=dict(
                type='mmfd.TimmNetwork',
                name='vit_small_patch16_dinov3',
                img_size=64,
                model_args=dict(depth=1)),
            neck=dict(type='mmfd.WhiteningNeck')))
    images = pixels(2, 96)
    with torch.no_grad():
        small = F.interpolate(images, 64, mode='bilinear', antialias=True)
        mean, std = (255 *
                     torch.tensor(theirs.pretrained_cfg[key]).view(3, 1, 1)
                     for key in ('mean', 'std'))
        right = theirs.forward_features((small - mean) / std)
    right = torch.cat((right[:, :1], right[:, 5:]), 1)  # without registers
    right = F.layer_norm(right, (384, ))
    torch.testing.assert_close(teacher(images), right, rtol=0, atol=1e-5)


def test_statistics_that_nobody_says_are_asked_for():
    config = clip_teacher()
    del config['normalize']
    with pytest.raises(Refused, match='teacher.normalize is not set'):
        MODELS.build(config)


def test_random_teacher_is_known_by_its_numbers():
    prints = []
    for seed in 1, 1, 2:
        torch.manual_seed(seed)
        teacher = MODELS.build(small_teacher('dino_vitb16'))
        prints.append(teacher.fingerprint)
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 64
