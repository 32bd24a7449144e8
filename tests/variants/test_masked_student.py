"""Patches that are hidden from the student, and which tokens it learns."""
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers.models import (build_random, clip_teacher, distillation, pixels,
                            student)
from torch.utils.flop_counter import FlopCounterMode

from mmfd.errors import Refused
from mmfd.fast.attention import attend, bias_of
from mmfd.networks.some_patches import with_cls_tokens
from mmfd.networks.token_layout import Features


def masked(**kwargs):
    return build_random(
        distillation(
            type='mmfd.MaskedFeatureDistillation',
            **dict(dict(hidden=0.5, side=16), **kwargs)))


def masked_with(tokens, **kwargs):
    """A student and a teacher whose necks select these tokens."""
    teacher = clip_teacher()
    teacher.neck.tokens = tokens
    neck = dict(
        type='mmfd.ProjectionNeck',
        in_channels=48,
        out_channels=128,
        tokens=tokens)
    return masked(teacher=teacher, neck=neck, **kwargs)


def test_as_many_patches_are_hidden_in_each_image_and_are_zero_to_the_student(
):
    model, x = masked(hidden=0.25, side=8), pixels(6)
    hidden = model.draw(x)
    assert hidden.shape == (6, 4, 4)
    assert (hidden.flatten(1).sum(1) == 4).all()
    assert not torch.equal(hidden[0], hidden[1])
    seen = model.normalize(model.paint(x, hidden))
    whole = model.normalize(x)
    for i, row, column in hidden.nonzero():
        patch = slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8)
        assert not seen[(i, slice(None), *patch)].any()
        whole[(i, slice(None), *patch)] = 0
    assert torch.equal(seen, whole)


@pytest.mark.parametrize('tokens', ['all', 'map'])
@pytest.mark.parametrize('learns', ['hidden', 'seen', 'all'])
def test_loss_is_of_the_tokens_it_says(learns, tokens):
    model, x = masked_with(tokens, learns=learns), pixels(3)
    torch.manual_seed(0)
    loss = model.loss(x)['loss']
    torch.manual_seed(0)
    hidden = model.draw(x)
    pred = model.neck(model.extract_feat(model.paint(x, hidden)))
    each = F.smooth_l1_loss(
        pred, model.teacher(x), beta=2., reduction='none').mean(-1)
    chosen = []
    for i in range(3):
        for row in range(4):
            for column in range(4):
                is_hidden = hidden[i, row // 2, column // 2].item()
                if learns == 'all' or (learns == 'hidden') == is_hidden:
                    chosen.append(each[i, -16 + 4 * row + column])
        if tokens == 'all' and learns != 'hidden':
            chosen.append(each[i, 0])
    torch.testing.assert_close(loss, torch.stack(chosen).mean())


def test_held_out_images_are_seen_whole():
    model, plain = masked(), build_random(distillation())
    plain.load_state_dict(model.state_dict())
    plain.teacher = model.teacher
    x = pixels()
    for ours, theirs in zip(
            model.evaluated(x, model.extract_feat(x)),
            plain.evaluated(x, plain.extract_feat(x))):
        assert torch.equal(ours['loss'], theirs['loss'])


@pytest.mark.parametrize('settings, words', [
    (dict(hidden=1.), 'model.hidden=1.0'),
    (dict(hidden='0.5'), "model.hidden='0.5': a share of the patches"),
    (dict(side=0), 'model.side=0: a whole number of pixels'),
    (dict(side=-8), 'model.side=-8: a whole number of pixels'),
    (dict(side=16.), 'model.side=16.0: a whole number of pixels'),
    (dict(side=(16, 16)), 'model.side=.16, 16.: a whole number of pixels'),
    (dict(learns='all of it'), "'hidden', 'seen', 'all'"),
    (dict(side=24), 'model.side=24 does not divide images of 32 x 32'),
    (dict(side=4), '8 x 8 patches, and the student has 4 x 4 tokens'),
    (dict(hidden=.9), 'hidden=0.9 of 2 x 2 patches hides 4: set a smaller mo'),
    (dict(leave_out=True),
     "leave_out=True with learns='hidden' and a Student"),
])
def test_what_cannot_be_hidden_is_refused(settings, words):
    with pytest.raises(Refused, match=words):
        masked(**settings).loss(pixels())


def test_hidden_patches_are_taken_for_no_cls_token():
    """The first of them would be, since the loss is given no other tokens."""
    terms = {
        name: dict(tokens=name, loss=dict(type='mmfd.CosineLoss'))
        for name in ('cls', 'patches')
    }
    head = dict(
        type='mmfd.DistillationHead',
        loss=dict(type='mmfd.SumOfLosses', terms=terms))
    with pytest.raises(Refused, match='leaves no cls token to the loss'):
        masked(head=head)
    masked(head=head, learns='seen').loss(pixels())


def test_a_mean_of_tokens_has_no_hidden_ones():
    with pytest.raises(Refused, match="set neck.tokens='map'"):
        masked_with('mean').loss(pixels())
    masked_with('mean', learns='all').loss(pixels())


@pytest.mark.parametrize('settings', [
    dict(),
    dict(with_cls_token=False),
    dict(use_shared_rel_pos_bias=False, use_rel_pos_bias=True),
    dict(use_shared_rel_pos_bias=False, use_abs_pos_emb=True)
])
def test_tokens_of_some_patches_attend_to_no_others(settings):
    """As where the bias towards the others is minus infinity."""
    vit = build_random(student(out_type='raw', **settings)).eval()
    x, cls = torch.randn(2, 3, 32, 32), int(vit.with_cls_token)
    patches = torch.tensor([1, 4, 6, 7, 12])
    tokens = with_cls_tokens(patches, cls)
    found = vit(x, patches)[0]
    assert found.shape == (2, cls + 5, 48)
    torch.testing.assert_close(vit(x, torch.arange(16))[0], vit(x)[0])

    away = torch.full((cls + 16, ), -torch.inf)
    away[tokens] = 0.

    def among(attn, x, bias, gamma):
        if attn.relative_position_bias_table is not None:
            bias = bias_of(attn)
        bias = away.expand(len(away), -1) + (0. if bias is None else bias)
        return attend(attn, x, bias.expand(attn.num_heads, -1, -1), gamma)

    for layer in vit.layers:
        layer.forward = partial(type(layer).forward, layer, attend=among)
    torch.testing.assert_close(found, vit(x)[0][:, tokens])


@pytest.mark.parametrize('tokens', ['all', 'map'])
def test_patches_that_are_left_out_have_no_part_in_loss_or_gradient(tokens):
    model = masked_with(tokens, learns='seen', leave_out=True, side=8)
    x = pixels(3).requires_grad_()
    torch.manual_seed(0)
    loss = model.loss(x)['loss']
    torch.manual_seed(0)
    [patches] = model.patches_of(model.draw(x[:1]), (4, 4), seen=True)
    assert len(patches) == 8 == len({*patches.tolist()})
    seen = x.new_zeros(16).index_fill(0, patches, 1.).view(1, 1, 4, 4)
    # the teacher sees all, without a gradient; the student what it is given
    gradient, = torch.autograd.grad(loss, x)
    assert not F.avg_pool2d(gradient.abs(), 8)[:, :, seen[0, 0] == 0].any()
    assert F.avg_pool2d(gradient.abs(), 8)[:, :, seen[0, 0] == 1].all()
    pred = model.neck(
        Features(model.backbone(model.normalize(x), patches), 1, (1, 8)))
    target = model.teacher(x)[:, (tokens == 'all') + patches]
    if tokens == 'all':
        target = torch.cat([model.teacher(x)[:, :1], target], 1)
    expected = F.smooth_l1_loss(pred, target, beta=2.)
    torch.testing.assert_close(loss, expected)


def test_leaving_out_meets_the_teacher_on_the_grid_of_the_student():
    teacher = clip_teacher()
    teacher.neck.grid = 2
    with pytest.raises(
            Refused,
            match='a target of 5 tokens: expected is one '
            'for each of 4 x 4 patches'):
        masked(learns='seen', leave_out=True, teacher=teacher).loss(pixels())


def test_linear_layers_cost_as_much_as_there_are_tokens():
    vit, x = build_random(student()).eval(), torch.randn(2, 3, 32, 32)

    def operations(*patches):
        with FlopCounterMode(display=False) as counter:
            vit(x, *patches)
        counts = counter.get_flop_counts()['Global']
        return sum(n for op, n in counts.items() if 'mm' in str(op))

    assert 17 * operations(torch.arange(8)) == 9 * operations() > 0
