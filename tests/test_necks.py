"""Necks: which tokens they select, on which grid, how they normalise them."""
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers.models import (IMAGENET, clip_teacher, distillation, pixels,
                            student)
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmfd.errors import Refused
from mmfd.networks.token_layout import Features, features_of
from mmfd.weights import checkpoints


def neck(name, **kwargs):
    return MODELS.build(dict(type=f'mmfd.{name}', **kwargs))


def said(tokens, cls=1):
    """Features of a network that says how many tokens are before its map."""
    side = math.isqrt(tokens.shape[1] - cls)
    return Features((tokens, ), cls, (side, side))


def map_of(tokens, extra=1):
    """(B, C, h, w) of tokens (B, L, C), their map square."""
    side = math.isqrt(tokens.shape[1])
    return tokens[:, extra:].transpose(1, 2).unflatten(2, (side, side))


@pytest.mark.parametrize('source, target, weights', [
    (2, 4, [[4, 0], [3, 1], [1, 3], [0, 4]]),
    (4, 2, [[3, 3, 1, 0], [0, 1, 3, 3]]),
])
def test_map_is_resized_by_the_weights_of_a_triangle(source, target, weights):
    """Of one pixel where it grows; as wide as the step where it shrinks."""
    tokens = torch.randn(2, 1 + source**2, 5)
    weights = torch.tensor(weights).float()
    weights /= weights.sum(1, keepdim=True)
    expected = weights @ map_of(tokens) @ weights.T
    resized = neck('PlainNeck', grid=target)(said(tokens))
    assert torch.equal(resized[:, 0], tokens[:, 0])  # the cls token passes
    torch.testing.assert_close(map_of(resized), expected)


@pytest.mark.parametrize('grid', [3, 4, 9, (3, 8), [6, 4]])
def test_tokens_and_map_are_resized_as_torch_does(grid):
    tokens = torch.randn(2, 17, 5)
    size = grid if isinstance(grid, int) else tuple(grid)
    expected = F.interpolate(
        map_of(tokens), size, mode='bilinear', antialias=True)
    expected = expected.flatten(2).transpose(1, 2)
    for feats in (said(tokens), (map_of(tokens), )):
        got = neck('PlainNeck', grid=grid, tokens='map')(feats)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('grid', [0, -1, 1.5, '4', True, (4, ), (4, 0), ()])
def test_a_grid_of_no_patches_is_refused(grid):
    with pytest.raises(Refused, match=r'teacher.neck.grid=.*whole numbers of'):
        neck('PlainNeck', grid=grid)


def test_its_own_grid_changes_nothing():
    tokens = torch.randn(2, 17, 5)
    assert torch.equal(neck('PlainNeck', grid=4)(said(tokens)), tokens)


def test_several_tokens_may_come_before_the_map():
    tokens = torch.randn(2, 16 + 8, 8)
    resized = neck('PlainNeck', grid=2)(said(tokens, 8))
    assert resized.shape == (2, 4 + 8, 8)
    assert torch.equal(resized[:, :8], tokens[:, :8])


def test_each_choice_of_tokens_selects_them():
    tokens = torch.randn(2, 17, 5)
    read = {
        word: neck('PlainNeck', tokens=word)(said(tokens))
        for word in ('all', 'map', 'cls', 'mean')
    }
    assert torch.equal(read['all'], tokens)
    assert torch.equal(read['map'], tokens[:, 1:])
    assert torch.equal(read['cls'], tokens[:, :1])
    torch.testing.assert_close(read['mean'][:, 0], tokens[:, 1:].mean(1))
    pooled = neck('PlainNeck', tokens='mean')((map_of(tokens), ))
    torch.testing.assert_close(pooled, read['mean'])


@pytest.mark.parametrize('word', ['all', 'map', 'cls', 'mean'])
def test_target_is_white_whatever_was_selected_and_resized(word):
    feats = said(5 + 3 * torch.randn(2, 17, 64))
    target = neck('WhiteningNeck', tokens=word, grid=6)(feats)
    ones = torch.ones(target.shape[:2])
    assert target.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(
        target.var(-1, correction=0), ones, rtol=0, atol=1e-3)
    if word != 'cls':  # resizing after whitening would not do
        late = neck('PlainNeck', tokens=word, grid=6)
        shrunk = late(said(neck('WhiteningNeck')(feats)))
        assert shrunk.var(-1, correction=0).min() < 0.9


def test_l2_tokens_have_length_one_and_their_direction():
    tokens = torch.randn(2, 17, 64)
    target = neck('L2Neck')((tokens, ))
    torch.testing.assert_close(target.norm(dim=-1), torch.ones(2, 17))
    torch.testing.assert_close(target * tokens.norm(dim=-1, keepdim=True),
                               tokens)


def test_plain_tokens_are_what_they_were():
    tokens = torch.randn(2, 17, 64)
    assert torch.equal(neck('PlainNeck')((tokens, )), tokens)


def test_without_final_norm_and_whitening_the_last_block_is_the_target():
    teacher = clip_teacher(neck=dict(type='mmfd.PlainNeck'))
    affine = MODELS.build(distillation(teacher)).teacher
    torch.nn.init.normal_(affine.backbone.ln1.weight)
    seen = []
    affine.backbone.layers[-1].register_forward_hook(
        lambda module, args, out: seen.append(out))
    x = pixels()
    target = affine(x)
    torch.testing.assert_close(target, affine.backbone.ln1(seen[0]))
    teacher.backbone.final_norm = False
    none = MODELS.build(distillation(teacher)).teacher
    none.backbone.load_state_dict({
        name: value
        for name, value in affine.backbone.state_dict().items()
        if not name.startswith('ln1.')
    })
    assert torch.equal(none(x), seen[0])


def test_projection_may_come_before_or_after_the_grid():
    feats = said(torch.randn(2, 17, 48))
    before = neck('ProjectionNeck', in_channels=48, out_channels=8, grid=7)
    after = neck('PlainNeck', grid=7)
    projected = before.projection(feats[0])
    torch.testing.assert_close(before(feats), after(said(projected)))


def test_gradients_reach_every_token_through_the_grid():
    tokens = torch.randn(2, 17, 8, requires_grad=True)
    project = neck('ProjectionNeck', in_channels=8, out_channels=8, grid=6)
    project(said(tokens)).sum().backward()
    assert tokens.grad.abs().amin() > 0


def test_grid_keeps_the_precision_of_autocast():
    """Resized in fp32, for which half precision has no kernel on a CPU."""
    tokens = torch.randn(2, 17, 8).bfloat16()
    project = neck('ProjectionNeck', in_channels=8, out_channels=8, grid=6)
    with torch.autocast('cpu', torch.bfloat16):
        assert project(said(tokens)).dtype is torch.bfloat16
    assert project.select_tokens(said(tokens)).dtype is torch.bfloat16


@pytest.mark.parametrize('kwargs, shape, message', [
    (dict(tokens='cls'), (2, 8, 4, 4),
     "teacher.backbone has no cls token .* teacher.neck.tokens='mean'"),
    (dict(grid=4), (2, 197, 8), "197 tokens.*backbone.out_type='featmap'"),
    (dict(tokens='map'), (2, 8), r'gives \(2, 8\), neither tokens'),
])
def test_features_without_the_selected_tokens_say_what_to_set(
        kwargs, shape, message):
    with pytest.raises(Refused, match=message):
        neck('WhiteningNeck', **kwargs)((torch.zeros(shape), ))


def test_unknown_choice_of_tokens_is_answered_with_the_known_ones():
    with pytest.raises(Refused, match="'gap': .* 'map', 'cls', 'mean'"):
        neck('WhiteningNeck', tokens='gap')


@pytest.mark.parametrize('side', ['neck', 'teacher.neck'])
def test_grids_of_different_size_meet_where_the_config_says(side):
    config = Config(distillation(backbone=student(patch_size=16)))
    config.merge_from_dict({f'{side}.grid': 4 if side == 'neck' else 2})
    model = MODELS.build(config.to_dict())
    model.loss(pixels())['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())


def small(type, **kwargs):
    return dict(type=f'mmpretrain.{type}', **kwargs)


STUDENTS = {  # name -> (small, its width, of the docs, its width)
    'ConvNeXt-T':
    (small(
        'ConvNeXt',
        arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 24, 32]),
        gap_before_final_norm=False), 32,
     small('ConvNeXt', arch='tiny', gap_before_final_norm=False), 768),
    'ResNet-50': (small('ResNet', depth=18, base_channels=8), 64,
                  small('ResNet', depth=50), 2048),
    'Swin-T': (small(
        'SwinTransformer',
        arch=dict(
            embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 1, 2, 2]),
        img_size=64,
        window_size=2), 64, small('SwinTransformer', arch='tiny'), 768),
    'ViT-Ti':
    (small(
        'VisionTransformer',
        arch=dict(
            embed_dims=24,
            num_layers=2,
            num_heads=2,
            feedforward_channels=48),
        img_size=64,
        patch_size=32,
        out_type='raw'), 24,
     small('VisionTransformer', arch='deit-tiny', out_type='raw'), 192),
}


def trains_by_config_alone(config, name, size, grid):
    """First without setting the grids, then with what the message says."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config)
    x = pixels(size=size)
    try:
        model.loss(x)
    except Refused as error:
        assert f'neck.grid={grid} ' in str(error)
        assert ("neck.tokens='map'" in str(error)) == (name != 'ViT-Ti')
    else:  # a ViT/16 has the teacher's own tokens
        assert (name, size) == ('ViT-Ti', 224)
    model.neck.select_tokens.grid = (grid, grid)
    cls = name == 'ViT-Ti'
    model.teacher.neck.select_tokens.tokens = 'all' if cls else 'map'
    model.loss(x)['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('name', STUDENTS)
def test_any_backbone_is_a_student_of_clip(name):
    backbone, width, _, _ = STUDENTS[name]
    teacher = clip_teacher()
    teacher.backbone.img_size = 64
    config = distillation(
        teacher,
        backbone=backbone,
        neck=dict(
            type='mmfd.ProjectionNeck', in_channels=width, out_channels=128))
    trains_by_config_alone(config, name, 64, 8)


@pytest.mark.full
@pytest.mark.parametrize('name', STUDENTS)
def test_any_full_size_backbone_is_a_student_of_clip_vitb16(name):
    _, _, backbone, width = STUDENTS[name]
    config = Config.fromfile('configs/fd/clip_vitb_fd.py').model.to_dict()
    config['teacher'].update(checkpoint='random')
    config.update(
        backbone=backbone, neck=dict(config['neck'], in_channels=width))
    trains_by_config_alone(config, name, 224, 14)


def test_logits_are_those_of_timms_classifier(tmp_path):
    theirs = timm.create_model(
        'deit_tiny_patch16_224', img_size=32, num_classes=7).eval()
    torch.nn.init.normal_(theirs.head.weight)
    torch.nn.init.normal_(theirs.head.bias)
    checkpoints.save(theirs.state_dict(), tmp_path / 'deit.pth', {})
    ours = neck(
        'LogitsNeck',
        in_channels=192,
        num_classes=7,
        checkpoint=str(tmp_path / 'deit.pth'))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        feats = said(theirs.forward_features(images))
        expected = theirs(images)
    torch.testing.assert_close(ours.logits(feats)[:, 0], expected)
    torch.testing.assert_close(
        ours(feats)[:, 0], F.layer_norm(expected, (7, )))


def test_logits_are_those_of_mmpretrains_classifier(tmp_path):
    theirs = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(clip_teacher().backbone, out_type='cls_token'),
            head=dict(
                type='mmpretrain.VisionTransformerClsHead',
                num_classes=7,
                in_channels=128))).eval()
    torch.nn.init.normal_(theirs.head.layers.head.weight)
    checkpoints.save(theirs.state_dict(), tmp_path / 'model.pth', {})
    ours = neck(
        'LogitsNeck',
        in_channels=128,
        num_classes=7,
        checkpoint=str(tmp_path / 'model.pth'),
        prefix='head.layers.head.')
    images = torch.randn(2, 3, 32, 32)
    expected = theirs(images, mode='tensor')
    theirs.backbone.out_type = 'raw'
    logits = ours.logits(said(theirs.backbone(images)[-1]))[:, 0]
    torch.testing.assert_close(logits, expected)


def test_classifier_that_was_published_in_half_precision_is_taken(tmp_path):
    linear = torch.nn.Linear(8, 7).half()
    checkpoints.save(
        linear.state_dict(prefix='head.'), tmp_path / 'vit.pth', {})
    ours = neck(
        'LogitsNeck',
        in_channels=8,
        num_classes=7,
        checkpoint=str(tmp_path / 'vit.pth'))
    assert torch.equal(ours.weight, linear.weight.float())


def test_file_without_a_classifier_is_refused(tmp_path):
    checkpoints.save(dict(x=torch.zeros(1)), tmp_path / 'vit.pth', {})
    with pytest.raises(Refused, match="none of its keys .* prefix='head.'"):
        neck(
            'LogitsNeck',
            in_channels=8,
            num_classes=7,
            checkpoint=str(tmp_path / 'vit.pth'))


def test_classifier_is_in_no_parameters_and_no_checkpoint():
    logits = dict(
        type='mmfd.LogitsNeck',
        in_channels=128,
        num_classes=7,
        checkpoint='random')
    model = MODELS.build(
        distillation(
            clip_teacher(neck=logits),
            neck=dict(
                type='mmfd.ProjectionNeck',
                in_channels=48,
                out_channels=7,
                tokens='cls')))
    for names in (model.state_dict(), dict(model.named_parameters())):
        assert {n.split('.')[0] for n in names} == {'backbone', 'neck'}
    loss = model.loss(pixels())['loss']
    loss.backward()
    assert not model.teacher(pixels()).requires_grad
    assert model.double().teacher.neck.weight.dtype is torch.float64


# --- how the tokens lie ---


def timm_teacher(neck, **backbone):
    return MODELS.build(
        dict(
            type='mmfd.Teacher',
            checkpoint='random',
            normalize=IMAGENET,
            backbone=dict(type='mmpretrain.TIMMBackbone', **backbone),
            neck=dict(type='mmfd.PlainNeck', **neck)))


@pytest.mark.parametrize('size, name, more, prefix, grid', [
    ((192, 256), 'vit_small_patch16_dinov3', dict(), 5, (12, 16)),
    ((208, 240), 'vit_tiny_patch16_224', dict(dynamic_img_size=True), 1,
     (13, 15)),
    ((224, 224), 'vit_tiny_patch16_224', dict(reg_tokens=7), 8, (14, 14)),
])
def test_network_says_how_many_tokens_are_before_its_map(
        size, name, more, prefix, grid):
    teacher = timm_teacher(
        dict(tokens='map', grid=6), model_name=name, depth=1, **more)
    images = 255 * torch.rand(1, 3, *size)
    with torch.no_grad():
        tokens = teacher.backbone(teacher.normalize(images))[-1]
    patches = tokens[:, prefix:].transpose(1, 2).unflatten(2, grid)
    expected = F.interpolate(
        patches, (6, 6), mode='bilinear', antialias=True).flatten(2)
    torch.testing.assert_close(teacher(images), expected.transpose(1, 2))


@pytest.mark.parametrize('name, more, registers', [
    ('vit_small_patch16_dinov3', dict(), 4),
    ('vit_tiny_patch16_224', dict(reg_tokens=7), 7),
    ('vit_tiny_patch16_224', dict(), 0),
])
def test_registers_go_and_the_cls_token_stays(name, more, registers):
    """So the teacher meets a student that has a cls token and no registers."""
    teacher = timm_teacher(dict(), model_name=name, depth=1, **more)
    images = 255 * torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        tokens = teacher.backbone(teacher.normalize(images))[-1]
    cls, _, patches = tokens.split([1, registers, 14 * 14], 1)
    torch.testing.assert_close(teacher(images), torch.cat((cls, patches), 1))


def test_map_with_its_channels_last_is_read_as_the_network_says():
    teacher = timm_teacher(
        dict(),
        model_name='swin_tiny_patch4_window7_224',
        depths=(1, 1),
        embed_dim=24,
        num_heads=(1, 1))
    images = 255 * torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        right = teacher.backbone(teacher.normalize(images))[-1]
    assert right.shape == (1, 28, 28, 48)
    assert torch.equal(teacher(images), right.flatten(1, 2))


def test_network_of_timm_without_its_tokens_is_told_how_it_gives_them():
    """TIMMBackbone has no out_type; here it gives the pooled cls token."""
    name, images = 'deit_tiny_distilled_patch16_224', torch.rand(
        1, 3, 224, 224)
    teacher = timm_teacher(dict(), model_name=name, depth=1)
    with pytest.raises(
            Refused, match=r'gives \(1, 192\), .* mmfd.TimmNetwork those of'):
        teacher(images)
    backbone = MODELS.build(
        dict(type='mmfd.TimmNetwork', name=name, model_args=dict(depth=1)))
    feats = features_of(backbone, backbone(images), (224, 224))
    assert neck('PlainNeck', tokens='map')(feats).shape == (1, 14 * 14, 192)


class Silent(torch.nn.Module):
    """A network that says nothing of what it gives."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, pixels):
        return torch.rand(len(pixels), *self.shape),


@pytest.mark.parametrize('shape, size, right', [
    ((17, 8), (32, 32), False),
    ((17, 8), (24, 32), False),
    ((8, 4, 4), (32, 32), True),
    ((4, 4, 8), (32, 32), False),
    ((8, 3, 4), (24, 32), True),
    ((3, 4, 8), (24, 32), False),
])
def test_network_that_says_nothing_is_not_guessed(shape, size, right):
    backbone = Silent(*shape)
    select = neck('PlainNeck', tokens='map', grid=2)
    images = torch.rand(1, 3, *size)
    if right:
        feats = features_of(backbone, backbone(images), size)
        assert select(feats).shape == (1, 4, 8)
        return
    with pytest.raises(Refused, match='before the map|B, h, w, C'):
        select(features_of(backbone, backbone(images), size))
