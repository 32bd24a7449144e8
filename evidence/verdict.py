"""Whether one network is better than another: intervals and a verdict.

Two things could have come out otherwise: the seeds, and the test images. The
verdict asks both.
"""
import numpy as np
from scipy import stats

MARGIN = 1.0  # points; fixed before the first final run
SEEN, NOT_SEEN, OPEN = 'seen', 'not seen', 'not told apart'


def score(values):
    """Per cent, the mean over seeds: top-1 or mIoU.

    Args:
        values (array): whether each seed is right about each image, (S, N)
            bool; or the areas of intersection and union of each class,
            (S, N, 2, classes) int.
    """
    if values.ndim == 2:
        return 100 * values.mean()
    intersection, union = values.sum(1, dtype=np.int64).swapaxes(0, 1)
    return 100 * (intersection / union).mean()


def welch(before, after):
    """95 % interval of the difference of two means over seeds.

    Args:
        before, after (array): score of each seed in per cent, (S, ).

    Returns:
        tuple: low, high in points.
    """
    test = stats.ttest_ind(after, before, equal_var=False)
    return tuple(test.confidence_interval(0.95))


def bootstrap(before, after, draws=2000):
    """95 % interval of the difference over test images, drawn again.

    Both networks are drawn on the same images.

    Args:
        before, after (array): as `score` takes them; seeds may differ in
            number.

    Returns:
        tuple: low, high in points.
    """
    rng, count = np.random.default_rng(0), before.shape[1]
    drawn = (rng.integers(count, size=count) for _ in range(draws))
    differences = [score(after[:, i]) - score(before[:, i]) for i in drawn]
    return tuple(np.percentile(differences, [2.5, 97.5]))


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
