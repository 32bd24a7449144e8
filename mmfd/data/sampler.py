"""The order of images, and what is drawn for each, as functions of a seed."""
import random

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import Sampler

from mmfd.registry import DATA_SAMPLERS


def seed_all(*numbers):
    """Let what will be drawn here depend on `numbers` and on nothing else.

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


class Draw(int):
    """An index that brings the seed of what is drawn for its sample."""

    def __new__(cls, index, *numbers):
        self = super().__new__(cls, index)
        self.numbers = numbers
        return self

    def __reduce__(self):  # on its way to a worker
        return Draw, (int(self), *self.numbers)

    def seed_all(self):
        seed_all(*self.numbers, self)


@DATA_SAMPLERS.register_module()
class ResumableSampler(Sampler):
    """Each image once an epoch, in an order that seed and epoch determine.

    Processes take turns, so that as many images make the same batch on any
    number of them. What they cannot share evenly is left to other epochs; the
    host's sampler repeats images, and then has epochs of other lengths on
    other numbers of processes. Yields `Draw`, by which `mmfd.ImageFolder`
    crops and flips alike in any worker.

    Args:
        dataset (Sized): what the indices are of.
        seed (int): None leaves it to `mmfd.ResumableLoop`, which sets the
            run's.
    """

    def __init__(self, dataset, seed=None):
        self.dataset = dataset
        self.seed = seed or 0
        self.epoch = self.start = 0

    def __iter__(self):
        order = torch.Generator()
        words = np.random.SeedSequence((self.seed, self.epoch))
        order.manual_seed(int(words.generate_state(1, np.uint64)[0] >> 1))
        indices = torch.randperm(len(self.dataset), generator=order)
        own = indices[get_rank()::get_world_size()][:len(self)]
        for index in own[self.start:].tolist():
            yield Draw(index, self.seed, self.epoch)

    def __len__(self):
        """Of a whole epoch, wherever this one starts."""
        return len(self.dataset) // get_world_size()

    def set_epoch(self, epoch):
        """As the host's."""
        self.epoch = epoch
