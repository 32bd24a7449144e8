"""The images of one split, found by number among all that were listed."""
import hashlib
from bisect import bisect_right

import numpy as np


class Selection:
    """Some units of listed images, or a share of the images in them.

    Args:
        images: as `FolderImages` or `ShardImages`.
        units (list[int]): which of its units.
        labels (ndarray): number of the class of each label that `images` gives
            to its images; None if they have no classes.
        held_out (ndarray): sorted positions of images, counted through these
            units.
        rest (bool): take all images but those.
    """

    def __init__(self, images, units, labels=None, held_out=None, rest=False):
        self.images, self.units, self.labels = images, units, labels
        ends = images.counts[units].cumsum()
        self.starts = [0, *ends.tolist()]
        self.held_out, self.rest = held_out, rest
        self.length = self.starts[-1]
        if held_out is not None:
            self.length = (
                self.length - len(held_out) if rest else len(held_out))
        if rest:  # how many are taken before each that is not
            self.before = held_out - np.arange(len(held_out))

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        """What the host wants to know of an image: its path, and its label."""
        unit, place = self._find(index)
        info = dict(img_path=self.images.path(unit, place))
        if self.labels is not None:
            label = self.images.labels(unit)[place]
            info['gt_label'] = int(self.labels[label])
        return info

    def sizes(self):
        """How many images of each unit are taken, int64."""
        if self.held_out is None:
            return np.diff(self.starts)
        held_out = np.diff(np.searchsorted(self.held_out, self.starts))
        return np.diff(self.starts) - held_out if self.rest else held_out

    def sum(self):
        """A digest of which images these are, and of which classes."""
        digest = hashlib.blake2b(self.sizes().tobytes())
        if self.held_out is not None:
            digest.update(self.held_out.tobytes())
        for unit in self.units:
            digest.update(self.images.identity(unit))
        if self.labels is not None:
            digest.update(self.images.by_name(self.labels).tobytes())
        return digest.digest()

    def _find(self, index):
        position = index
        if self.rest:
            position += int(np.searchsorted(self.before, index, 'right'))
        elif self.held_out is not None:
            position = int(self.held_out[index])
        unit = bisect_right(self.starts, position) - 1
        return self.units[unit], position - self.starts[unit]


class Selections:
    """Several selections, one behind the other, as a list of them would be.

    Args:
        parts (list[Selection]): of each root.
    """

    def __init__(self, parts):
        self.parts = parts
        self.starts = np.cumsum([0, *map(len, parts)]).tolist()

    def __len__(self):
        return self.starts[-1]

    @property
    def are_here(self):
        """Whether this process can read the tables of all."""
        return all(part.images.table is not None for part in self.parts)

    def sum(self):
        """Of `Selection.sum` of all, 32 hexadecimal digits."""
        sums = b''.join(part.sum() for part in self.parts)
        return hashlib.blake2b(sums, digest_size=16).hexdigest()

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part = bisect_right(self.starts, index) - 1
        return self.parts[part][index - self.starts[part]]


def lowest(hashes, counts, wanted):
    """The positions of so many images, those with the lowest hashes.

    Args:
        hashes (callable): unit -> uint64 array, of random numbers.
        counts (ndarray): images in each unit.
        wanted (int): how many, at most all.

    Returns:
        ndarray: sorted, int64.
    """
    total, starts = int(counts.sum()), counts.cumsum() - counts
    enough = wanted + 10 * wanted**0.5 + 10  # nearly always
    while True:
        limit = np.uint64(min(enough / max(total, 1), 1) * (2**64 - 2048))
        found = [(start + (low := np.flatnonzero(values <= limit)),
                  values[low]) for unit, start in enumerate(starts)
                 for values in [hashes(unit)]]
        positions, values = map(np.concatenate, zip(*found))
        if len(positions) >= wanted or enough >= total:
            return np.sort(positions[np.argsort(values,
                                                kind='stable')[:wanted]])
        enough *= 2
