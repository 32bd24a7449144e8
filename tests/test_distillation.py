"""The method: what a step computes, with which students and losses."""
import pytest
import torch
from helpers.models import arch, clip_teacher, distillation, pixels, student
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmfd.errors import Refused


@pytest.fixture
def model():
    return MODELS.build(distillation())


def test_target_is_white_per_token_after_the_teachers_own_norm(model):
    backbone = model.teacher.backbone
    torch.nn.init.normal_(backbone.ln1.weight)  # an affine that matters
    x = pixels()
    target = model.teacher(x)
    assert target.shape == (2, 17, 128)
    assert target.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(
        target.var(-1, correction=0), torch.ones(2, 17), rtol=0, atol=1e-3)
    tokens = backbone(model.teacher.normalize(x))[-1]
    mean = tokens.mean(-1, keepdim=True)
    var = tokens.var(-1, keepdim=True, correction=0)
    torch.testing.assert_close(target, (tokens - mean) / (var + 1e-5).sqrt())


@pytest.mark.parametrize('plain', [
    dict(type='mmpretrain.VisionTransformer', arch=arch(), out_type='raw'),
    dict(
        type='mmpretrain.TIMMBackbone',
        model_name='vit_tiny_patch16_224',
        embed_dim=48),
])
def test_any_backbone_that_gives_tokens_is_a_student(plain):
    backbone = dict(plain, img_size=32, patch_size=8)
    model = MODELS.build(distillation(backbone=backbone))
    model.loss(pixels())['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_different_grids_say_what_to_set():
    model = MODELS.build(distillation(backbone=student(patch_size=16)))
    with pytest.raises(Refused, match=r'5 \(1 \+ 2 x 2\).*neck.grid=4 '):
        model.loss(pixels())


def test_different_widths_say_what_to_set():
    neck = dict(type='mmfd.ProjectionNeck', in_channels=48, out_channels=96)
    model = MODELS.build(distillation(neck=neck))
    with pytest.raises(Refused, match='neck.out_channels=128'):
        model.loss(pixels())


def test_student_of_another_width_says_what_to_set():
    neck = dict(type='mmfd.ProjectionNeck', in_channels=64, out_channels=128)
    model = MODELS.build(distillation(neck=neck))
    with pytest.raises(Refused, match='neck.in_channels=48'):
        model.loss(pixels())


def test_maps_of_one_grid_meet_as_tokens_do():
    """A convolutional student, and a teacher without its cls token."""
    teacher = clip_teacher()
    teacher.backbone.out_type = 'featmap'
    resnet = dict(
        type='mmpretrain.ResNet',
        depth=18,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1, ))
    neck = dict(type='mmfd.ProjectionNeck', in_channels=128, out_channels=128)
    model = MODELS.build(distillation(teacher, backbone=resnet, neck=neck))
    x = pixels()
    model.loss(x)['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())
    samples = model.predict(x, [DataSample(), DataSample()])
    featmap = model.extract_feat(x)[-1]
    assert featmap.shape == (2, 128, 4, 4)
    torch.testing.assert_close(
        torch.stack([sample.feature for sample in samples]),
        featmap.mean((2, 3)))


def test_backbone_that_gives_no_tokens_says_what_to_set():
    model = MODELS.build(distillation(backbone=student(out_type='cls_token')))
    message = r"^backbone gives \(2, 48\), .*: backbone.out_type='raw' gives"
    with pytest.raises(Refused, match=message):
        model.loss(pixels())


def test_teacher_that_gives_no_tokens_says_what_to_set():
    teacher = clip_teacher()
    teacher.backbone.out_type = 'cls_token'
    model = MODELS.build(distillation(teacher))
    with pytest.raises(
            Refused, match=": teacher.backbone.out_type='raw' gives"):
        model.loss(pixels())


def test_loss_overfits_one_batch(model):
    model.init_weights()
    x, optimizer = pixels(4), torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(60):
        losses.append(model.loss(x)['loss'])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.4 * losses[0]
