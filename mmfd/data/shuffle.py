"""Random orders that are computed where they are needed, and never kept.

An order is a function of positions in an epoch, which gives numbers of images.
So an epoch of a hundred million images begins at once, anywhere in it.
"""
from functools import lru_cache

import numpy as np

ROUNDS = 8  # even, so that both parts of a number end where they began
FEWEST_BITS = 6  # so many rounds do not mix fewer evenly
WINDOW = 4096  # positions within which images of several sources are mixed


class Permutation:
    """The numbers below `n` in a random order.

    A Feistel network permutes all numbers of as many bits; one that falls
    outside is permuted again until it does not (Black and Rogaway, "Ciphers
    with Arbitrary Finite Domains", 2002, section 3.2).

    Args:
        n (int): how many numbers.
        key (int): not negative; each key has another order.
    """

    def __init__(self, n, *key):
        self.n = n
        bits = max((n - 1).bit_length(), FEWEST_BITS)
        self.left, self.right = np.uint64(bits // 2), np.uint64(-(-bits // 2))
        self.keys = np.random.SeedSequence(key).generate_state(
            ROUNDS, np.uint64)

    def __call__(self, positions):
        """Int64 array of positions below `n` to one of numbers below `n`."""
        numbers = self._permuted(np.asarray(positions).astype(np.uint64))
        while (outside := numbers >= self.n).any():
            numbers[outside] = self._permuted(numbers[outside])
        return numbers.astype(np.int64)

    def _permuted(self, numbers):
        of_left, of_right = self.left, self.right  # bits
        left, right = numbers >> of_right, numbers & _ones(of_right)
        for key in self.keys:
            left, right = right, (left ^ hashed(right ^ key)) & _ones(of_left)
            of_left, of_right = of_right, of_left
        return left << of_right | right


class ByShard:
    """All images in a random order, few shards at a time.

    Shards come in a random order, in groups; the images of a group are
    shuffled as a whole. So a disk or a network reads a group at a time.

    Args:
        sizes (ndarray): images in each shard, which are numbered in turn.
        group (int): how many shards are mixed.
        key (int): as in `Permutation`.
    """

    def __init__(self, sizes, group, *key):
        order = Permutation(len(sizes), *key)(np.arange(len(sizes)))
        ends = np.cumsum(sizes)
        self.first = (ends - sizes)[order]  # image of each shard, in order
        self.starts = np.cumsum(sizes[order]) - sizes[order]  # its position
        self.group, self.n, self.key = group, int(ends[-1]), key

    def __call__(self, positions):
        """As `Permutation.__call__`."""
        positions = np.asarray(positions)
        groups = self._shard_at(positions) // self.group
        shuffled = np.empty_like(positions)
        for group in np.unique(groups):
            here = groups == group
            start, stop = self._range_of(group)
            order = Permutation(stop - start, *self.key, int(group) + 1)
            shuffled[here] = start + order(positions[here] - start)
        shards = self._shard_at(shuffled)
        return self.first[shards] + shuffled - self.starts[shards]

    def _shard_at(self, positions):
        return np.searchsorted(self.starts, positions, side='right') - 1

    def _range_of(self, group):
        """The positions of a group, from the first to behind the last."""
        next_one = (group + 1) * self.group
        stop = self.starts[next_one] if next_one < len(self.starts) else self.n
        return int(self.starts[group * self.group]), int(stop)


class Mixture:
    """Images of several sources, each as often as its weight says.

    Of `n` images so many are of a source as its share of the weights, to one;
    of every 4,096 too. A source goes on in the next epoch where this one ends,
    and begins anew, in another order, when all its images have come.

    Args:
        sizes (list[int]): images in each source, which are numbered in turn.
        weights (list[float]): of each source.
        orders (callable): (source, pass) -> the order of that source in its
            so many-th pass through all its images, from 0.
        n (int): images in an epoch.
        epoch (int): this one.
        key (int): as in `Permutation`.
    """

    def __init__(self, sizes, weights, orders, n, epoch, *key):
        self.sizes, self.orders = sizes, lru_cache(None)(orders)
        self.key = (*key, epoch)
        self.first = np.cumsum([0, *sizes[:-1]])
        shares = np.array(weights, float) / sum(weights)
        self.counts = _apportioned(shares, n)
        per_epoch = self.counts[-1]
        self.begun = [epoch * int(count) for count in per_epoch]

    def __call__(self, positions):
        """As `Permutation.__call__`."""
        positions = np.asarray(positions)
        windows, numbers = positions // WINDOW, np.empty_like(positions)
        for window in np.unique(windows):
            here = windows == window
            numbers[here] = self._in_window(window, positions[here])
        return numbers

    def _in_window(self, window, positions):
        before, after = self.counts[window:window + 2]
        length = int((after - before).sum())
        slots = Permutation(length, *self.key,
                            int(window) + 1)(
                                positions - window * WINDOW)
        ends = np.cumsum(after - before)
        sources = np.searchsorted(ends, slots, side='right')
        of_source = slots - (ends - (after - before))[sources]
        numbers = np.empty_like(positions)
        for source in np.unique(sources):
            here = sources == source
            drawn = self.begun[source] + before[source] + of_source[here]
            numbers[here] = self.first[source] + self._drawn(source, drawn)
        return numbers

    def _drawn(self, source, drawn):
        """The images of a source that come as so many-th since the start."""
        passes, places = np.divmod(drawn, self.sizes[source])
        numbers = np.empty_like(drawn)
        for one in np.unique(passes):
            here = passes == one
            numbers[here] = self.orders(source, int(one))(places[here])
        return numbers


def _apportioned(shares, n):
    """How many images of each source come before each window begins.

    Returns:
        ndarray: int64 (windows + 1, sources), which sums to the positions.
    """
    counts = [np.zeros(len(shares), np.int64)]
    for start in range(0, n, WINDOW):
        stop = min(start + WINDOW, n)
        due = np.maximum(shares * stop - counts[-1], 0)
        more = np.floor(due).astype(np.int64)
        rest = stop - start - more.sum()
        more[np.argsort(more - due, kind='stable')[:rest]] += 1
        counts.append(counts[-1] + more)
    return np.array(counts)


def hashed(numbers):
    """Uint64 numbers that look random, from any others (SplitMix64)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in (30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB):
        numbers = (numbers ^ numbers >> np.uint64(shift)) * np.uint64(factor)
    return numbers ^ numbers >> np.uint64(31)


def _ones(bits):
    return (np.uint64(1) << bits) - np.uint64(1)
