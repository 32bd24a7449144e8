"""Orders are computed: each image once, in any order, at any place."""
from collections import Counter
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from mmfd.data.shuffle import WINDOW, ByShard, Mixture, Permutation, hashed


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 2**64))
def test_a_permutation_has_each_number_once_and_at_any_place(n, key):
    order = Permutation(n, key)
    whole = order(np.arange(n))
    assert sorted(whole) == [*range(n)]
    some = np.arange(n)[::-3]
    assert (order(some) == whole[some]).all()


@pytest.mark.parametrize(
    'n', [2, 3, 4, pytest.param(5, marks=pytest.mark.full)])
def test_all_orders_of_few_numbers_are_equally_likely(n):
    drawn = 100 * factorial(n)
    seen = Counter(
        tuple(Permutation(n, seed)(np.arange(n))) for seed in range(drawn))
    assert len(seen) == factorial(n)
    distance = sum((count - 100)**2 / 100 for count in seen.values())
    assert distance < chi2.isf(1e-4, factorial(n) - 1)


def test_each_place_gets_each_number_equally_often():
    n, drawn = 30, 2000
    seen = np.zeros((n, n))
    for seed in range(drawn):
        seen[np.arange(n), Permutation(n, seed)(np.arange(n))] += 1
    distance = ((seen - drawn / n)**2 / (drawn / n)).sum()
    assert distance < chi2.isf(1e-4, (n - 1)**2)


def test_neighbours_are_not_neighbours_afterwards():
    """Of numbers in a row the differences are as of random numbers."""
    n = 1_000_000
    order = Permutation(n, 1)(np.arange(n))
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 5 / n**0.5
    counts, _ = np.histogram(np.diff(order) % n, bins=100)
    distance = ((counts - n / 100)**2 / (n / 100)).sum()
    assert distance < chi2.isf(1e-4, 99)


def test_hash_is_splitmix64():
    """The first outputs of its authors' generator, seeded with 1234567."""
    state = np.uint64(1234567) + np.uint64(0x9E3779B97F4A7C15) * np.arange(
        3, dtype=np.uint64)
    assert hashed(state).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 14),
    st.integers(0, 99))
def test_by_shard_each_image_comes_once_and_few_shards_at_a_time(
        sizes, group, seed):
    sizes = np.array(sizes)
    n = sizes.sum()
    order = ByShard(sizes, group, seed)
    whole = order(np.arange(n))
    assert sorted(whole) == [*range(n)]
    assert (order(np.arange(n)[::-2]) == whole[::-1][::2]).all()
    # shards come in groups, and none that is done comes again
    shards = np.repeat(np.arange(len(sizes)), sizes)[whole]
    last = {shard: place for place, shard in enumerate(shards)}
    for place, shard in enumerate(shards):
        begun = {*shards[:place + 1]}
        open_now = [s for s in begun if last[s] >= place]
        assert len(open_now) <= group


def test_shards_and_the_images_in_them_are_shuffled():
    sizes = np.full(20, 50)
    first, second = (
        ByShard(sizes, 1, seed)(np.arange(1000)) for seed in range(2))
    assert (first[::50] // 50 != second[::50] // 50).any()
    assert (np.sort(first[:50]) != first[:50]).any()
    assert len({*first[:50] // 50}) == 1


@pytest.mark.parametrize('weights', [[1, 1, 1], [8, 1, 1], [0.2, 5, 0.1]])
def test_a_mixture_has_its_weights_in_every_window(weights):
    sizes, n = [7000, 300, 12_000], 19_300
    shares = np.array(weights) / sum(weights)

    def whole_epoch(epoch):
        return Mixture(
            sizes, weights,
            lambda source, times: Permutation(sizes[source], 5, source, times),
            n, epoch, 5)(
                np.arange(n))

    ends = np.cumsum(sizes)
    for epoch in range(3):
        sources = np.searchsorted(ends, whole_epoch(epoch), side='right')
        for start in range(0, n, WINDOW):
            part = sources[start:start + WINDOW]
            counts = np.bincount(part, minlength=3)
            assert np.abs(counts - shares * len(part)).max() <= 2
        # mixed within a window, not one source after the other
        changes = (np.diff(sources) != 0).mean()
        assert changes == pytest.approx(1 - (shares**2).sum(), abs=.02)


def test_images_of_a_source_come_equally_often_over_epochs():
    """A source that is drawn from 2.5 times an epoch: 10 epochs, 25 each."""
    sizes, n = [40, 60], 100 + 40 + 60

    def epoch(number):
        return Mixture(
            sizes, [1, 1],
            lambda source, times: Permutation(sizes[source], source, times), n,
            number, 0)(
                np.arange(n))

    seen = Counter(np.concatenate([epoch(i) for i in range(12)]).tolist())
    assert {seen[i] for i in range(40)} == {30}  # 1,200 draws of 40
    assert {seen[i] for i in range(40, 100)} == {20}
    assert [*epoch(0)] == [*epoch(0)] != [*epoch(1)]
