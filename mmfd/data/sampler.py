"""The order of images, and the seed of each, from the seed of a run."""
import random

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import Sampler

from mmfd.registry import DATA_SAMPLERS


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

    Args:
        dataset (Sized): what the indices are of.
        seed (int): None: `mmfd.ResumableLoop` sets that of the run.

    Attributes:
        start (int): how many indices of this epoch are left out, since a run
            that is resumed has used them.
        update (int): images of a process in an update of the weights; an
            epoch is a multiple of it. 1: any number.
    """

    def __init__(self, dataset, seed=None):
        self.dataset = dataset
        self.seed = seed or 0
        self.epoch = self.start = 0
        self.update = 1

    def __iter__(self):
        order = torch.Generator()
        words = np.random.SeedSequence((self.seed, self.epoch))
        order.manual_seed(int(words.generate_state(1, np.uint64)[0] >> 1))
        indices = torch.randperm(len(self.dataset), generator=order)
        of_process = indices[get_rank()::get_world_size()][:len(self)]
        for index in of_process[self.start:].tolist():
            yield SeededIndex(index, self.seed, self.epoch)

    def __len__(self):
        """Of a whole epoch, whatever `start` is."""
        shared = len(self.dataset) // get_world_size()
        return shared - shared % self.update

    def set_epoch(self, epoch):
        """Called by the host before each epoch."""
        self.epoch = epoch
