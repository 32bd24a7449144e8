"""The learning rate; tests/test_parity.py has whole official curves."""
from math import cos, pi

import pytest

from mmfd.training.lr_schedule import warmup_cosine

RATES = dict(base=1., warmup_lr=.1, min_lr=.2, warmup=10, total=50)


def test_curve_passes_through_its_landmarks():
    assert warmup_cosine(0, **RATES) == .1
    assert warmup_cosine(5, **RATES) == pytest.approx(.55)
    assert warmup_cosine(10, **RATES) == 1.
    assert warmup_cosine(30, **RATES) == pytest.approx(.6)  # half way down
    assert warmup_cosine(20, **RATES) == pytest.approx(.2 + .8 *
                                                       (1 + cos(pi / 4)) / 2)
    assert warmup_cosine(50, **RATES) == pytest.approx(.2)


def test_layer_whose_peak_is_below_the_minimum_rises_to_it():
    rates = dict(RATES, base=.05)
    assert warmup_cosine(10, **rates) == pytest.approx(.05)
    assert warmup_cosine(50, **rates) == pytest.approx(.2)
