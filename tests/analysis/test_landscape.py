"""Landscapes of known functions, and weights that are left as they were."""
import pytest
import torch

from mmfd.analysis.landscape import evaluate_along, random_direction


def test_landscape_of_a_quadratic_is_the_parabola():
    model = torch.nn.Linear(6, 4).double()
    step = random_direction(
        dict(model.named_parameters()),
        torch.Generator().manual_seed(0))
    start = model.weight.clone()
    points = [(a, ) for a in torch.linspace(-1, 1, 5).tolist()]
    walked = evaluate_along(
        model, [step], points,
        lambda: dict(loss=(model.weight - start).square().sum().item()))
    losses = [numbers['loss'] for numbers in walked]
    length = start.square().sum().item()  # filters are as long as weights
    assert losses == pytest.approx([length * a**2 for a, in points])
    assert torch.equal(model.weight, start)


def test_every_filter_of_a_direction_is_as_long_as_its_weights():
    model = torch.nn.Conv2d(3, 5, 2)
    step = random_direction(
        dict(model.named_parameters()),
        torch.Generator().manual_seed(1))
    torch.testing.assert_close(step['weight'].flatten(1).norm(dim=1),
                               model.weight.flatten(1).norm(dim=1))
    assert not step['bias'].any()


def test_weights_are_restored_when_evaluation_fails():
    model = torch.nn.Linear(3, 3)
    before = model.weight.clone()
    step = random_direction(dict(model.named_parameters()), torch.Generator())
    with pytest.raises(ZeroDivisionError):
        [*evaluate_along(model, [step], [(1., )], lambda: 1 / 0)]
    assert torch.equal(model.weight, before)
