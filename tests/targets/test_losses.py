"""What counts in the loss: closed forms, and other formulas of the same."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from mmfd.errors import Refused

SMOOTH_L1 = dict(type='torch.nn.SmoothL1Loss')
COSINE = dict(type='mmfd.CosineLoss')


def loss(name, **settings):
    return MODELS.build(dict(type=f'mmfd.{name}', **settings))


def tokens(count=2, scale=1.):
    generator = torch.Generator().manual_seed(count)
    return scale * torch.randn(2, count, 12, generator=generator)


def rotation(width=12):
    return torch.linalg.qr(
        torch.randn(width, width,
                    generator=torch.Generator().manual_seed(0)))[0]


def test_cosine_is_that_of_pytorch():
    pred, target = tokens(5), tokens(6)[:, :5]
    expected = 1 - F.cosine_similarity(pred, target, dim=-1).mean()
    torch.testing.assert_close(loss('CosineLoss')(pred, target), expected)


@pytest.mark.parametrize('angle', [0., 1e-3, 0.5, 3.14159265])
def test_cosine_of_an_angle(angle):
    """Small angles keep their digits: 1 - cos a is a^2 / 2, 5e-7 here."""
    angle = torch.tensor(angle, dtype=torch.float64)
    pred = 3 * torch.stack((angle.cos(), angle.sin())).float().view(1, 1, 2)
    target = torch.tensor([[[0.2, 0.]]])
    expected = (2 * (angle / 2).sin().square()).float()
    torch.testing.assert_close(
        loss('CosineLoss')(pred, target), expected, rtol=1e-4, atol=1e-12)


def test_gram_of_two_tokens_is_its_closed_form():
    """Cosines 1, 1, and twice 0 against 1/2: (2 * 1/4) / 4."""
    pred = torch.tensor([[[2., 0.], [0., 5.]]])
    target = torch.tensor([[[1., 0.], [.5, .75**.5]]])
    assert loss('GramLoss')(pred, target) == pytest.approx(1 / 8)


def test_gram_does_not_see_a_rotation_of_all_tokens_and_their_lengths():
    target = tokens(5)
    assert loss('GramLoss')(3 * target @ rotation(), target) < 1e-12
    assert loss('GramLoss')(target.roll(1, 1), target) > 0.01


def test_relations_of_two_tokens_are_their_closed_form():
    """Of lengths 1 and 0: softmax (a, 0), a = 1 / root 2 / temperature."""
    pred = torch.zeros(1, 2, 2)
    target = torch.tensor([[[1., 0.], [0., 0.]]])
    p = torch.tensor(1 / 2**.5 / 2).sigmoid()
    against_even = p * (2 * p).log() + (1 - p) * (2 * (1 - p)).log()
    torch.testing.assert_close(
        loss('RelationLoss', temperature=2.)(pred, target), against_even / 2)


@pytest.mark.parametrize('heads', [1, 3])
def test_relations_are_those_of_an_attention(heads):
    """As PyTorch's own attention weights, of identity projections."""
    pred, target = tokens(5), tokens(6)[:, :5]
    attention = torch.nn.MultiheadAttention(12, heads, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.eye(12).repeat(3, 1))
        p, q = (
            attention(x, x, x, average_attn_weights=False)[1]
            for x in (target, pred))
    expected = (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(
        loss('RelationLoss', heads=heads)(pred, target), expected)


RADIO = dict(
    summary=dict(tokens='cls', loss=COSINE),
    direction=dict(tokens='patches', weight=0.9, loss=COSINE),
    scale=dict(tokens='patches', weight=0.1, loss=SMOOTH_L1))


def test_loss_of_am_radio_is_its_formula():
    pred, target = tokens(5), tokens(6)[:, :5]
    cosine = 1 - F.cosine_similarity(pred, target, dim=-1)
    expected = cosine[:, 0].mean() + 0.9 * cosine[:, 1:].mean(
    ) + 0.1 * F.smooth_l1_loss(pred[:, 1:], target[:, 1:])
    torch.testing.assert_close(
        loss('SumOfLosses', terms=RADIO)(pred, target), expected)


def test_cosine_of_images_is_that_of_all_their_tokens_in_a_row():
    pred, target = tokens(5), tokens(6)[:, :5]
    expected = 1 - F.cosine_similarity(pred.flatten(1), target.flatten(1))
    torch.testing.assert_close(
        loss('CosineLoss', of='image')(pred, target), expected.mean())


THEIA = dict(
    direction=dict(weight=0.9, loss=dict(COSINE, of='image')),
    scale=dict(weight=0.1, loss=SMOOTH_L1))


@pytest.mark.parametrize('name, settings, theirs', [
    ('SumOfLosses', dict(terms=THEIA), 0.9552080035),
    ('RelationLoss', dict(heads=3), 0.4912095964),
    ('GramLoss', {}, 0.0829891935),
])
def test_losses_are_those_of_the_authors_code(name, settings, theirs):
    """What it gave, once, in fp32 for these tokens.

    - Theia (bdaiinstitute/theia, 59d0448): `RobotVisionFM.get_loss` of one
      teacher, 0.9 of its cosine and 0.1 of its smooth-L1 (`cos_l1`).
    - TinyMIM (OliverRensu/TinyMIM, d084705): `forward_kd_loss` of the V-V
      relations of `vit.Attention` with three heads, whose values the tokens
      are, its weights being identities.
    - DINOv3 (facebookresearch/dinov3, 6876159): `GramLoss` of images that
      keeps negative similarities, as `dinov3_vit7b16_gram_anchor` sets it.
    """
    pred, target = tokens(5), tokens(6)[:, :5]
    value = loss(name, **settings)(pred, target)
    assert value.item() == pytest.approx(theirs, abs=1e-6)


def test_equal_terms_are_one_loss():
    """Cls and patches by their shares of the tokens: the mean of all."""
    pred, target = tokens(5), tokens(6)[:, :5]
    terms = dict(
        a=dict(tokens='cls', weight=0.4, loss=SMOOTH_L1),
        b=dict(tokens='patches', weight=0.6, loss=SMOOTH_L1))
    torch.testing.assert_close(
        loss('SumOfLosses', terms=terms, cls=2)(pred, target),
        F.smooth_l1_loss(pred, target))


@pytest.mark.parametrize('inner', [SMOOTH_L1, COSINE])
def test_masked_tokens_have_no_part_in_loss_and_gradient(inner):
    pred, target = tokens(6).requires_grad_(), tokens(7)[:, :6]
    masked = target.clone()
    masked[:, [2, 4]] = 0
    value = loss('MaskedLoss', loss=inner)(pred, masked)
    gradient, = torch.autograd.grad(value, pred)
    seen = [0, 1, 3, 5]
    expected = MODELS.build(inner)(pred[:, seen], target[:, seen])
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient,
                               torch.autograd.grad(expected, pred)[0])
    assert not gradient[:, [2, 4]].any()


def test_where_all_tokens_are_masked_the_loss_is_0():
    value = loss('MaskedLoss', loss=COSINE)(tokens(), torch.zeros(2, 2, 12))
    assert value == 0


@pytest.mark.parametrize('name, settings', [
    ('CosineLoss', {}),
    ('CosineLoss', dict(of='image')),
    ('GramLoss', {}),
    ('RelationLoss', dict(heads=3)),
    ('SumOfLosses', dict(terms=RADIO)),
    ('MaskedLoss', dict(loss=COSINE)),
])
def test_no_loss_at_the_target_and_the_same_in_fp32_under_autocast(
        name, settings):
    pred, target = tokens(5), tokens(6)[:, :5]
    criterion = loss(name, **settings)
    assert criterion(target, target).abs() < 1e-6
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = criterion(pred, target)
    assert torch.equal(inside, criterion(pred, target)) and inside > 0.01
    each = torch.vmap(lambda p, t: criterion(p[None], t[None]))(pred, target)
    for of_image, p, t in zip(each, pred, target):
        torch.testing.assert_close(of_image, criterion(p[None], t[None]))


TERM = dict(loss=COSINE)


@pytest.mark.parametrize('name, settings, message', [
    ('CosineLoss', dict(of='map'), "of='map': expected one of 'token', 'ima"),
    ('MaskedLoss', dict(loss=dict(COSINE, of='image')), 'CosineLoss as it is'),
    ('RelationLoss', dict(heads=0), 'heads=0: a whole number above 0'),
    ('RelationLoss', dict(heads=2.), 'heads=2.0: a whole number above 0'),
    ('RelationLoss', dict(temperature=-1), 'temperature=-1: a number'),
    ('RelationLoss', dict(temperature=float('inf')), 'temperature=inf: a num'),
    ('SumOfLosses', dict(terms={}), 'no term has a weight above 0'),
    ('SumOfLosses', dict(terms=dict(a=dict(TERM, weight=0))), 'above 0'),
    ('SumOfLosses', dict(terms=dict(a=dict(TERM, weight=-1))), 'weight=-1'),
    ('SumOfLosses', dict(terms=dict(a=dict(TERM, tokens='map'))),
     "a.tokens='map': expected one of 'all', 'cls', 'patches'"),
    ('SumOfLosses', dict(terms=dict(a=dict(tokens='cls'))), 'not no loss'),
    ('SumOfLosses', dict(terms=dict(a=dict(TERM, wait=1))), 'not wait'),
    ('SumOfLosses', dict(terms=dict(a=dict(TERM, weight='1'))), "weight='1'"),
    ('SumOfLosses', dict(terms=dict(a=dict(TERM, weight=float('nan')))),
     'a.weight=nan: a number of 0 or more'),
    ('SumOfLosses', dict(terms=[TERM]), 'terms is .*: a dict is expected'),
    ('SumOfLosses', dict(terms=dict(a='mmfd.CosineLoss')), 'terms.a is .*: a'),
    ('SumOfLosses', dict(terms=dict(a=dict(loss='L1'))), "a.loss is 'L1': a"),
    ('SumOfLosses', dict(terms=dict(keys=TERM)), "'keys' can be no name"),
    ('SumOfLosses', dict(terms={'a.b': TERM}), "'a.b' can be no name"),
    ('MaskedLoss', dict(loss=None), 'loss is None: a dict with type'),
    ('MaskedLoss', dict(loss=dict(type='mmfd.GramLoss')), 'no such mean'),
    ('MaskedLoss', dict(loss=dict(SMOOTH_L1, reduction='sum')),
     "SmoothL1Loss has reduction='sum'"),
    ('MaskedLoss', dict(loss=dict(type='mmfd.SumOfLosses', terms=RADIO)),
     'put the loss of each term with patches'),
])
def test_settings_that_make_no_loss_are_refused(name, settings, message):
    with pytest.raises(Refused, match=message):
        loss(name, **settings)


def test_tokens_that_a_loss_cannot_take_are_refused():
    with pytest.raises(Refused, match='heads=5 do not divide the 12 channels'):
        loss('RelationLoss', heads=5)(tokens(), tokens())
    with pytest.raises(Refused, match='cls=1 and there are 1 tokens'):
        loss('SumOfLosses', terms=RADIO)(tokens(1), tokens(1))


@pytest.mark.parametrize('name', ['GramLoss', 'RelationLoss'])
def test_one_token_has_no_relations(name):
    """They would be the same whatever the student says: no gradient."""
    with pytest.raises(Refused, match=f'mmfd.{name} .* there is 1, so'):
        loss(name)(tokens(1), tokens(1))
