"""The head: the loss, and what it says when tokens do not correspond."""
import pytest
import torch
import torch.nn.functional as F
from helpers.models import distillation
from mmengine.registry import MODELS

from mmfd.errors import Refused


@pytest.fixture
def head():
    return MODELS.build(distillation()['head'])


def test_smooth_l1_of_beta_2_has_the_official_values(head):
    for distance, value in [(1., 0.25), (2., 1.), (3., 2.)]:
        pred = torch.full((1, 1, 8), distance)
        assert head.loss(pred, torch.zeros(1, 1, 8))['loss'] == value


def test_cls_token_counts_as_much_as_every_other(head):
    target = torch.zeros(2, 17, 128)
    for token in (0, 5):
        pred = target.clone()
        pred[:, token] = 1.
        loss = head.loss(pred, target)['loss']
        assert loss == pytest.approx(0.25 / 17)


def test_any_registered_loss_takes_part():
    head = MODELS.build(
        dict(type='mmfd.DistillationHead', loss=dict(type='torch.nn.MSELoss')))
    pred, target = torch.randn(2, 2, 17, 128)
    assert head.loss(pred, target)['loss'] == F.mse_loss(pred, target)


def test_loss_of_each_number_is_refused():
    head = MODELS.build(
        dict(
            type='mmfd.DistillationHead',
            loss=dict(type='torch.nn.MSELoss', reduction='none')))
    with pytest.raises(Refused, match=r'Tensor \(2, 17, 8\), and a scalar'):
        head.loss(*torch.zeros(2, 2, 17, 8))


@pytest.mark.parametrize('s, t, advice', [
    (49, 197, "teacher.neck.tokens='map' and neck.grid=14 .or teacher.neck."
     'grid=7, .* teacher has 7 x 7.$'),
    (196, 197, "set teacher.neck.tokens='map'$"),
    (197, 196, "set neck.tokens='map'$"),
    (198, 197, "set neck.tokens='map' and teacher.neck.tokens='map'$"),
    (257, 197, r'257 \(1 \+ 16 x 16\).* 197 \(1 \+ 14 x 14\).*set neck.grid='
     r'14 \(or teacher.neck.grid=16'),
    (1, 197, "set neck.tokens and teacher.neck.tokens to the same, .*'mean'$"),
    (192, 197, r'student gives 192 tokens.*neck.grid=\(h, w\)'),
])
def test_head_says_what_to_set_for_the_shapes_that_came(head, s, t, advice):
    with pytest.raises(Refused, match=advice):
        head.loss(torch.zeros(1, s, 8), torch.zeros(1, t, 8))
