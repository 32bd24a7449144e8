"""The order of images, and the seed of each, from the seed of a run."""
import random
from math import inf
from numbers import Real

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import Sampler

from mmfd.data.shuffle import ByShard, Mixture, Permutation
from mmfd.errors import Refused
from mmfd.registry import DATA_SAMPLERS

COMPUTED = 1 << 12  # indices at a time


def seed_all(*numbers):
    """Seed Python, NumPy and PyTorch from `numbers` and nothing else.

    Args:
        numbers (int): not negative.
    """
    words = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    seed = int.from_bytes(words[:2].tobytes(), 'little')
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


class SeededIndex(int):
    """The index of a sample, with the seed of its random transforms.

    Args:
        index (int): of the sample, part of the seed.
        numbers (int): the rest of the seed, as in `seed_all`.
    """

    def __new__(cls, index, *numbers):
        self = super().__new__(cls, index)
        self.numbers = numbers
        return self

    def __reduce__(self):  # on its way to a worker
        return SeededIndex, (int(self), *self.numbers)

    def seed_all(self):
        seed_all(*self.numbers, self)


@DATA_SAMPLERS.register_module()
class ResumableSampler(Sampler):
    """Each image once an epoch, in an order that depends on seed and epoch.

    Processes take turns, so a batch has the same images on any number of
    processes. Images that they cannot share evenly, or that do not fill an
    accumulated update, are left out of an epoch, other ones each time; the
    host's sampler repeats images instead, so its epochs have other lengths on
    other numbers of processes. Yields `SeededIndex`, so that
    `mmfd.ImageFolder` crops and flips an image alike in any worker.

    The order is computed as it goes (`shuffle.Permutation`), and takes no
    memory, however many images there are.

    Args:
        dataset (Sized): what the indices are of.
        seed (int): None: `mmfd.ResumableLoop` sets that of the run.
        shards_at_once (int): images of so many shards of `mmfd.ImageFolder`
            are mixed before the next ones are begun, so that a disk or a
            network reads one part of them after the other. Row groups of
            Parquet files are shards, too; a folder of images is one as a
            whole. None: all images are mixed.
        weights (list[float]): how often images of each root of
            `mmfd.ImageFolder` come, in proportion. An epoch has as many images
            as all roots together; a root goes on in the next epoch where this
            one ends, so each of its images comes as often as any other. None:
            every image once.

    Attributes:
        start (int): how many indices of this epoch are left out, since a run
            that is resumed has used them.
        update (int): images of a process in an update of the weights; an
            epoch is a multiple of it. 1: any number.

    Raises:
        Refused: if there are not as many weights as roots, or one is not
            positive; if shards or weights are of another data set.
    """

    def __init__(self, dataset, seed=None, shards_at_once=None, weights=None):
        self.dataset = dataset
        self.seed = seed or 0
        self.epoch = self.start = 0
        self.update = 1
        self.shards_at_once, self.weights = shards_at_once, weights
        self.parts = None
        if shards_at_once is not None or weights is not None:
            self.parts = _parts(dataset)
            _check(self.parts, shards_at_once, weights)

    def __iter__(self):
        order, rank, processes = self._order(), get_rank(), get_world_size()
        for start in range(self.start, len(self), COMPUTED):
            stop = min(start + COMPUTED, len(self))
            positions = np.arange(start, stop) * processes + rank
            for index in order(positions).tolist():
                yield SeededIndex(index, self.seed, self.epoch)

    def __len__(self):
        """Of a whole epoch, whatever `start` is."""
        shared = len(self.dataset) // get_world_size()
        return shared - shared % self.update

    def set_epoch(self, epoch):
        """Called by the host before each epoch."""
        self.epoch = epoch

    def _order(self):
        """Positions in this epoch to indices, as `shuffle` has it."""
        images = len(self.dataset)
        if self.weights is None:
            return self._order_of(self.parts, images, 0, self.epoch)
        lengths = [int(sizes.sum()) for sizes in self.parts]
        return Mixture(
            lengths, self.weights, lambda source, times: self._order_of(
                [self.parts[source]], lengths[source], source + 1, times),
            images, self.epoch, self.seed)

    def _order_of(self, parts, images, *key):
        if self.shards_at_once is None:
            return Permutation(images, self.seed, *key)
        return ByShard(
            np.concatenate(parts), self.shards_at_once, self.seed, *key)


def _parts(dataset):
    """Images in each shard of each root of a data set.

    Returns:
        list[ndarray]: of one number for a root that is not in shards.
    """
    parts = getattr(getattr(dataset, 'images', None), 'parts', None)
    if parts is None or sum(map(len, parts)) != len(dataset):
        raise Refused('sampler.shards_at_once and sampler.weights are for '
                      'mmfd.ImageFolder without indices; the data set is '
                      f'{type(dataset).__name__} of {len(dataset):,} images')
    return [
        part.sizes() if part.images.in_shards else np.array([len(part)])
        for part in parts
    ]


def _check(parts, shards_at_once, weights):
    if shards_at_once is not None and not (type(shards_at_once) is int
                                           and shards_at_once > 0):
        raise Refused(f'sampler.shards_at_once={shards_at_once!r}: expected '
                      'is a number from 1 on, or None')
    if weights is None:
        return
    given = weights if isinstance(weights, (list, tuple)) else []
    numbers = [w for w in given if isinstance(w, Real) and 0 < w < inf]
    if not len(numbers) == len(given) == len(parts) or sum(numbers) == inf:
        raise Refused(f'sampler.weights={weights!r}: expected is a number '
                      f'above 0 for each of {len(parts)} data roots')
