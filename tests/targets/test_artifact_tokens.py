"""Patches far longer than the others are clipped or left out of the loss."""
import pytest
import torch
from helpers.models import (build_random, clip_teacher, distillation, pixels,
                            student)
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.launch.checks import target_checks
from mmfd.necks import TargetNeck
from mmfd.networks.token_layout import Features
from mmfd.planning.count import count_step
from mmfd.targets.artifact_tokens import lengths

CLIP, MASK = dict(action='clip'), dict(action='mask')
LONG = 5  # the patch, of 16, that is long


def features(dtype=torch.float32, side=4):
    """Tokens of length 1, a cls token of length 50, one patch of 12."""
    tokens = torch.randn(
        2, 1 + side**2, 8, generator=torch.Generator().manual_seed(0))
    tokens = torch.nn.functional.normalize(tokens, dim=-1)
    tokens[:, 0] *= 50
    tokens[0, 1 + LONG] *= 12
    return Features((tokens.to(dtype), ), 1, (side, side))


def test_length_is_in_medians_of_the_image():
    patches = torch.tensor([3., 1., 2., 2., 40.]).view(1, 5, 1)
    assert lengths(patches).tolist() == [[1.5, 0.5, 1., 1., 20.]]


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_clip_shortens_long_patches_and_nothing_else(dtype):
    feats = features(dtype)
    target = TargetNeck('none', artifacts=CLIP)(feats)
    expected = feats[0].float()
    expected[0, 1 + LONG] *= 3 / 12
    torch.testing.assert_close(target, expected, rtol=1e-2, atol=1e-6)
    same = [i for i in range(17) if i != 1 + LONG]
    assert torch.equal(target[:, same], expected[:, same])


def test_clip_comes_before_tokens_are_averaged_and_resized():
    feats = features()
    patches = feats[0][:, 1:].clone()
    patches[0, LONG] *= 3 / 12
    pooled = TargetNeck('l2', tokens='mean', artifacts=CLIP)(feats)
    expected = torch.nn.functional.normalize(patches.mean(1), dim=-1)
    torch.testing.assert_close(pooled[:, 0], expected)
    resized = TargetNeck('none', tokens='map', grid=2, artifacts=CLIP)(feats)
    without = TargetNeck('none', tokens='map', grid=2)
    torch.testing.assert_close(resized,
                               without(Features((patches, ), 0, (4, 4))))


@pytest.mark.parametrize('name', ['none', 'l2', 'layer_norm'])
def test_masked_patches_are_zeros_and_the_others_as_they_were(name):
    feats = features()
    target = TargetNeck(name, artifacts=MASK)(feats)
    expected = TargetNeck(name)(feats)
    assert expected.any(-1).all()
    expected[0, 1 + LONG] = 0
    torch.testing.assert_close(target, expected)


def test_cells_that_a_masked_patch_touches_are_masked():
    """Each of 4 x 4 cells is a mean of 4 x 4 patches around it, of 8 x 8."""
    neck = TargetNeck('none', tokens='map', grid=4, artifacts=MASK)
    target = neck(features(side=8))
    masked = ~target.any(-1).unflatten(1, (4, 4))
    expected = torch.zeros(2, 4, 4, dtype=bool)
    expected[0, 0, 2:] = True  # of the patch in row 0, column 5
    assert torch.equal(masked, expected)
    assert target.isfinite().all()


def test_running_statistics_see_no_masked_patch():
    running = dict(type='running', channels=8)
    neck = TargetNeck(running, tokens='map', artifacts=MASK).train()
    feats = features()
    neck(feats)
    patches = feats[0][:, 1:].flatten(0, 1).double()
    seen = [i for i in range(32) if i != LONG]
    torch.testing.assert_close(neck.normalize.mean, patches[seen].mean(0))
    assert neck.normalize.count == 31


@pytest.mark.parametrize('name, artifacts, share', [
    ('none', None, 0.75),
    ('none', CLIP, 0.16),
    ('layer_norm', None, 0.02),
])
def test_four_long_patches_of_196_have_this_share_of_the_squares(
        name, artifacts, share):
    """4 * 144 of 4 * 144 + 192, 4 * 9 of 4 * 9 + 192, 4 of 196."""
    tokens = torch.nn.functional.normalize(
        torch.randn(2, 196, 64, generator=torch.Generator().manual_seed(0)),
        dim=-1)
    tokens[:, :4] *= 12
    target = TargetNeck(
        name, artifacts=artifacts)(
            Features((tokens, ), 0, (14, 14)))
    squares = target.square().sum(-1)
    assert squares[:, :4].sum() / squares.sum() == pytest.approx(
        share, abs=0.01)


@pytest.mark.parametrize('settings, message', [
    (dict(artifacts=dict(action='drop')),
     "action='drop': expected one of 'clip'"),
    (dict(artifacts=dict(CLIP, ratio=3)), 'long are expected, not ratio'),
    (dict(artifacts=dict(MASK, long=1)), 'long=1: more than 1 median'),
    (dict(artifacts=dict(MASK, long='3')), "long='3': more than 1 median"),
    (dict(artifacts='mask'), "artifacts is 'mask': a dict with action"),
    (dict(artifacts=dict(MASK), tokens='mean'), "'mask' for 'all' and 'map'"),
    (dict(artifacts=dict(CLIP), tokens='cls'), "'clip' is for 'all'"),
    (dict(artifacts=dict(CLIP)), "would change nothing.*action='mask'"),
])
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(Refused, match=message):
        TargetNeck(**settings)


# --- in a model ---


def model(loss, artifacts=None, **neck):
    teacher = clip_teacher(
        layers=1,
        neck=dict(type='mmfd.TargetNeck', artifacts=artifacts, **neck))
    head = dict(type='mmfd.DistillationHead', loss=loss)
    return distillation(teacher, head=head, backbone=student())


SMOOTH_L1 = dict(type='torch.nn.SmoothL1Loss', beta=2.)
MASKED = dict(type='mmfd.MaskedLoss', loss=SMOOTH_L1)


def parted(**settings):
    terms = {
        name: dict(tokens=name, loss=SMOOTH_L1)
        for name in ('cls', 'patches')
    }
    return dict(type='mmfd.SumOfLosses', terms=terms, **settings)


def test_masked_patches_teach_nothing():
    """A long patch in the teacher has no part in any gradient."""
    torch.manual_seed(0)
    built = build_random(model(MASKED, dict(MASK, long=1.01)))
    for parameter in built.teacher.backbone.parameters():
        torch.nn.init.normal_(parameter, std=.1)
    built.teacher.weights_replaced()
    target_checks.check_losses(built)
    images = pixels()
    seen = built.teacher(images).any(-1)
    assert not seen.all() and seen.any()
    loss = built.loss(images)['loss']
    pred = built.neck(built.extract_feat(images))
    expected = torch.nn.functional.smooth_l1_loss(
        pred[seen], built.teacher(images)[seen], beta=2.)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('loss, settings, message', [
    (SMOOTH_L1, dict(artifacts=MASK),
     "wrap it in dict.type='mmfd.MaskedLoss'"),
    (dict(
        type='mmfd.SumOfLosses',
        terms=dict(
            scale=dict(tokens='patches', loss=SMOOTH_L1),
            direction=dict(tokens='patches', loss=MASKED))),
     dict(artifacts=MASK), "wrap it in dict.type='mmfd.MaskedLoss'"),
    (MASKED, {}, 'nothing is masked'),
    (parted(cls=2), {}, 'student has 1 cls tokens .*set head.loss.cls=1'),
])
def test_losses_that_would_count_other_tokens_are_refused(
        loss, settings, message):
    built = MODELS.build(model(loss, **settings))
    with pytest.raises(Refused, match=message):
        target_checks.check_losses(built)


def test_cls_tokens_need_no_mask_beside_masked_patches():
    terms = dict(
        summary=dict(tokens='cls', loss=SMOOTH_L1),
        map=dict(tokens='patches', loss=MASKED))
    loss = dict(type='mmfd.SumOfLosses', terms=terms)
    target_checks.check_losses(MODELS.build(model(loss, MASK)))


@pytest.mark.parametrize(
    'normalize',
    ['layer_norm', dict(type='running', channels=128)])
def test_planner_counts_a_step_with_masked_patches(normalize):
    """Its tensors have shapes alone, so none may depend on numbers."""
    counted = count_step(
        model(MASKED, MASK, normalize=normalize), 2, 32, 'cpu')
    plain = count_step(model(SMOOTH_L1, normalize=normalize), 2, 32, 'cpu')
    assert counted.backward_flops == plain.backward_flops > 0


def test_tokens_of_a_term_are_not_parted_again():
    within = dict(
        type='mmfd.SumOfLosses',
        terms=dict(patches=dict(tokens='patches', loss=parted())))
    with pytest.raises(Refused, match='tokens of its own within one'):
        target_checks.check_losses(MODELS.build(model(within)))


def test_message_names_the_branch_of_a_teacher():
    one = model(SMOOTH_L1, MASK)
    parts = {key: one.pop(key) for key in ('teacher', 'neck', 'head')}
    one.update(type='mmfd.MultiTeacherDistillation', branches=dict(dino=parts))
    with pytest.raises(
            Refused, match='^model.branches.dino: teacher.neck.art'):
        target_checks.check_losses(MODELS.build(one))


def test_cls_tokens_and_patches_need_both():
    config = model(parted())
    target_checks.check_losses(MODELS.build(config))
    config['neck'] = dict(config['neck'], tokens='map')
    with pytest.raises(Refused, match="neck.tokens='map': set it to 'all'"):
        target_checks.check_losses(MODELS.build(config))
