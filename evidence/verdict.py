"""Whether one network is better than another: intervals and a verdict.

Two things could have come out otherwise: the seeds, and the test images. The
verdict asks both.
"""
import numpy as np
from scipy import stats

MARGIN = 1.0  # points of top-1 (%); fixed before the first final run
SEEN, NOT_SEEN, OPEN = 'seen', 'not seen', 'not told apart'


def welch(before, after):
    """95 % interval of the difference of two means over seeds.

    Args:
        before, after (array): top-1 in per cent of each seed, (S, ).

    Returns:
        tuple: low, high in points.
    """
    test = stats.ttest_ind(after, before, equal_var=False)
    return tuple(test.confidence_interval(0.95))


def bootstrap(before, after, draws=2000):
    """95 % interval of the difference over test images, drawn again.

    Both networks are drawn on the same images.

    Args:
        before, after (array): whether each seed is right about each image,
            (S, N) bool.

    Returns:
        tuple: low, high in points.
    """
    difference = 100 * (after.mean(0) - before.mean(0))  # (N, )
    rng, count = np.random.default_rng(0), len(difference)
    means = [
        difference[rng.integers(count, size=count)].mean()
        for _ in range(draws)
    ]
    return tuple(np.percentile(means, [2.5, 97.5]))


def verdict(*intervals, margin=MARGIN):
    """In words: every interval above 0, every one below the margin, or else.

    Args:
        intervals: (low, high) in points.
    """
    if all(low > 0 for low, _ in intervals):
        return SEEN
    if all(high < margin for _, high in intervals):
        return NOT_SEEN
    return OPEN
