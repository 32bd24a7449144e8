"""Intervals and verdicts, on numbers whose answers are known."""
import numpy as np
import pytest


@pytest.fixture
def judge(monkeypatch):
    monkeypatch.syspath_prepend('evidence')
    import verdict
    return verdict


def test_welch_interval_is_that_of_a_table(judge):
    """Means 2 apart, variances 1 and 1, n=3 each: t(4) = 2.776."""
    low, high = judge.welch([1., 2, 3], [3., 4, 5])
    half = 2.776 * (1 / 3 + 1 / 3)**0.5
    assert (low, high) == pytest.approx((2 - half, 2 + half), abs=1e-3)


def test_bootstrap_over_images_is_the_normal_interval_where_it_is_large(judge):
    """Of 10,000 images 600 are won and 400 lost: 2 points, error 0.3."""
    before, after = np.zeros((2, 1, 10_000), bool)
    after[0, :600] = True
    before[0, 600:1000] = True
    low, high = judge.bootstrap(before, after)
    error = 100 * (0.1 - 0.02**2)**0.5 / 100
    assert (low, high) == pytest.approx((2 - 1.96 * error, 2 + 1.96 * error),
                                        abs=0.05)


def test_images_that_both_get_right_do_not_widen_the_interval(judge):
    same = np.random.default_rng(0).random((3, 1000)) < 0.5
    assert judge.bootstrap(same, same) == (0, 0)


def test_iou_is_of_all_pixels_and_not_the_mean_of_images(judge):
    """Class 0: 1 of 4 and 3 of 4 pixels; class 1: 2 of 2 and 0 of 0."""
    areas = np.array([[[[1, 2], [4, 2]], [[3, 0], [4, 0]]]], np.uint32)
    assert judge.score(areas) == pytest.approx(100 * (4 / 8 + 1) / 2)


def test_bootstrap_of_iou_is_the_normal_interval_where_it_is_large(judge):
    """Images of one pixel, one class: an IoU is a share of images."""
    before, after = np.zeros((2, 1, 10_000), bool)
    after[0, :600] = True
    before[0, 600:1000] = True
    areas = [
        np.stack([x, np.ones_like(x)], -1)[..., None].astype(np.uint32)
        for x in (before, after)
    ]
    assert judge.bootstrap(*areas) == pytest.approx(
        judge.bootstrap(before, after))


@pytest.mark.parametrize('intervals, expected', [
    ([(0.1, 2), (0.2, 3)], 'seen'),
    ([(0.1, 0.5), (0.2, 0.6)], 'seen'),
    ([(-1, 0.5), (-2, 0.9)], 'not seen'),
    ([(0.1, 2), (-0.2, 3)], 'not told apart'),
    ([(-1, 0.5), (-2, 1.1)], 'not told apart'),
])
def test_verdict_asks_both_intervals(judge, intervals, expected):
    assert judge.verdict(*intervals) == expected
