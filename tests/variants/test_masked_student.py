"""Patches that are hidden from the student, and which tokens it learns."""
import pytest
import torch
import torch.nn.functional as F
from helpers.models import build_random, clip_teacher, distillation, pixels

from mmfd.errors import Refused


def masked(**kwargs):
    return build_random(
        distillation(
            type='mmfd.MaskedFeatureDistillation',
            **dict(dict(hidden=0.5, side=16), **kwargs)))


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
    teacher = clip_teacher()
    teacher.neck.tokens = tokens
    model = masked(
        learns=learns,
        teacher=teacher,
        neck=dict(
            type='mmfd.ProjectionNeck',
            in_channels=48,
            out_channels=128,
            tokens=tokens))
    x = pixels(3)
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
    (dict(learns='all of it'), "'hidden', 'seen', 'all'"),
    (dict(side=24), 'model.side=24 does not divide images of 32 x 32'),
    (dict(side=4), '8 x 8 patches, and the student has 4 x 4 tokens'),
])
def test_what_cannot_be_hidden_is_refused(settings, words):
    with pytest.raises(Refused, match=words):
        masked(**settings).loss(pixels())


def test_a_mean_of_tokens_has_no_hidden_ones():
    teacher = clip_teacher()
    teacher.neck.tokens = 'mean'
    neck = dict(
        type='mmfd.ProjectionNeck',
        in_channels=48,
        out_channels=128,
        tokens='mean')
    with pytest.raises(Refused, match="set neck.tokens='map'"):
        masked(teacher=teacher, neck=neck).loss(pixels())
    masked(teacher=teacher, neck=neck, learns='all').loss(pixels())
