"""Images that lie in shards: files that hold many of them each."""
import hashlib
import os
import time
from functools import lru_cache
from typing import Callable, NamedTuple

import numpy as np

from mmfd.data import stores
from mmfd.data.scan import JUNK
from mmfd.data.shuffle import hashed
from mmfd.data.splits import read_name
from mmfd.data.table import keep_table, read_table, sum_of
from mmfd.files import cache_folder
from mmfd.hosts import log

NO_LABEL = -1
LISTED = 5  # problems that are said, of all


class Shard(NamedTuple):
    """What is in a shard.

    Attributes:
        file (str): relative to the root.
        stamp (list): of `stores.stamps`, when it was listed.
        counts (list[int]): images in each of its units.
        problems (list[str]): what is wrong in it, with names.
    """
    file: str
    stamp: list
    counts: list
    problems: list


class Kind(NamedTuple):
    """A kind of shards.

    Attributes:
        suffix (str): of their names.
        row (dtype): what a table keeps of an image; it has a `label`.
        listed (callable): (file, label numbers) -> rows, counts and problems.
            Numbers are asked for by names, and new ones given.
        image (callable): (file, unit of the shard, how many images it has,
            place in it, row) -> `StoredImage`. Files are as of
            `stores.located`.
    """
    suffix: str
    row: np.dtype
    listed: Callable
    image: Callable


class ShardImages:
    """The images in shards of one kind. A unit is what is read in one go.

    What a shard holds is looked up once, and kept in
    `$XDG_CACHE_HOME/mmfd/shards` (else `~/.cache/mmfd/shards`).

    Args:
        kind (Kind): of the shards.
        root (str): a folder.
        files (list[str]): of the shards, relative to it.
        log_every (float): seconds between lines of progress in the log.

    Attributes:
        folders (list[str]): of each unit, relative to the root. The name of a
            shard that names a split is a folder, too: `cc12m-train-0001.tar`.
        counts (ndarray): of the images in each unit, int64.
        label_names (list[str]): of labels, by number.
        left_out (list[str]): what is there and is not among the images.

    Raises:
        Refused: if a shard cannot be opened.
    """
    in_shards = True

    def __init__(self, kind, root, files, log_every=5.):
        self.kind, self.root = kind, str(root)
        self.table = _table(kind, self.root, files, log_every)
        self.shards = [Shard(*note) for note in self.table.notes['shards']]
        self.label_names = self.table.notes['labels']
        files = [
            stores.located(self.root, shard.file, shard.stamp)
            for shard in self.shards
        ]
        units = [(file, shard, i) for file, shard in zip(files, self.shards)
                 for i in range(len(shard.counts))]
        self.units = [(file, i) for file, _, i in units]
        self.folders = [_folder_of(shard.file) for _, shard, _ in units]
        self.counts = np.array([shard.counts[i] for _, shard, i in units],
                               np.int64)
        self.starts = self.counts.cumsum() - self.counts
        _say(
            self.root,
            tuple((shard.file, problem) for shard in self.shards
                  for problem in shard.problems))
        problems = sum(len(shard.problems) for shard in self.shards)
        self.left_out = [f'{problems:,} broken parts of shards'
                         ] * bool(problems)

    def path(self, unit, place):
        """The image at a place in a unit, a `StoredImage`."""
        row = self.table['rows'][self.starts[unit] + place]
        count = int(self.counts[unit])
        return self.kind.image(*self.units[unit], count, int(place), row)

    @property
    def watched(self):
        """What `why_away` looks at: the root, or a shard in a store."""
        return self.units[0][0] if stores.is_address(self.root) else self.root

    def labels(self, unit):
        """The label of each image of a unit, a number or `NO_LABEL`."""
        return self._rows(unit)['label']

    def distinct_labels(self, units):
        """The labels of the images of some units."""
        seen = np.zeros(len(self.label_names) + 1, bool)
        for unit in units:
            seen[self.labels(unit)] = True  # NO_LABEL is the last one
        return np.flatnonzero(seen)

    def hashes(self, unit, folder):
        """Hashes of the images' shard and place in it, uint64."""
        file, part = self.units[unit]
        name = os.path.relpath(file, os.path.join(self.root, folder))
        name = hashlib.blake2b(os.fsencode(f'{name} {part}'), digest_size=8)
        seed = np.frombuffer(name.digest(), '<u8')
        return hashed(seed
                      ^ hashed(np.arange(self.counts[unit], dtype=np.uint64)))

    def identity(self, unit):
        """Bytes that are equal if the images of a unit are."""
        file, part = self.units[unit]
        name = f'{os.path.relpath(file, self.root)} {part}'
        return os.fsencode(f'{name} {sum_of(self._rows(unit)):08x}\0')

    def _rows(self, unit):
        start = self.starts[unit]
        return self.table['rows'][start:start + self.counts[unit]]


def find_shards(root, suffix):
    """The files below a folder with a suffix, without hidden ones and junk.

    Args:
        root (str): folder, or address of one.

    Returns:
        list[str]: paths relative to the root, sorted.
    """
    if stores.is_address(root):
        return [
            name for name in stores.find(root)
            if name.endswith(suffix) and not any(
                part[0] == '.' or part.lower() in JUNK
                for part in name.split('/'))
        ]
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [
            name for name in folders
            if name[0] != '.' and name.lower() not in JUNK
        ]
        found += [
            os.path.relpath(os.path.join(folder, name), root) for name in names
            if name[0] != '.' and name.endswith(suffix)
        ]
    return sorted(found)


def table_file(kind, root, files):
    """Where the table of some shards is kept, a Path."""
    place = root if stores.is_address(root) else os.path.realpath(root)
    name = f'{place} {kind.suffix} {kind.row} {files}'
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return cache_folder('shards') / f'{digest[:32]}.table'


def _table(kind, root, files, log_every):
    """A table with a row for each image, from the cache where it is right."""
    path = table_file(kind, root, files)
    known = read_table(path, dict(rows=kind.row))
    stamps = stores.stamps(root, files)
    if known and stamps == [s[1] for s in known.notes['shards']]:
        return known
    return keep_table(
        path,
        lambda: _make(kind, root, [*zip(files, stamps)], known, log_every),
        root)


def _make(kind, root, files, known, log_every):
    """Columns and notes of a table.

    Args:
        files (list[tuple]): of each shard its name and stamp.
        known (Table): of the last time, or None.
    """
    shards, labels, old = [], {}, {}
    if known:
        labels = {name: i for i, name in enumerate(known.notes['labels'])}
        start = 0
        for note in known.notes['shards']:
            old[note[0]] = Shard(*note), start
            start += sum(note[2])

    def number(label):
        return labels.setdefault(label, len(labels))

    def rows():
        logged = begun = time.monotonic()
        images = 0
        for file, stamp in files:
            shard, start = old.get(file, (None, 0))
            if shard is not None and shard.stamp == stamp:
                found = known['rows'][start:start + sum(shard.counts)]
            else:
                found, counts, problems = kind.listed(
                    stores.located(root, file, stamp), number)
                shard = Shard(file, stamp, counts, problems)
            shards.append(shard)
            images += len(found)
            yield found
            now = time.monotonic()
            if now - logged > log_every:
                logged, done = now, len(shards) / len(files)
                log.info(f'{root}: {images:,} images in {len(shards):,} of '
                         f'{len(files):,} shards, '
                         f'{(now - begun) * (1 / done - 1):,.0f} s left')

    return dict(rows=(kind.row, rows())), lambda: dict(
        shards=shards, labels=[*labels])


@lru_cache(None)  # once, though each split looks at all
def _say(root, problems):
    """Warn of what is broken in shards: pairs of name and reason."""
    for file, problem in problems[:LISTED]:
        log.warn(f'{os.path.join(root, file)}: {problem}')
    if len(problems) > LISTED:
        log.warn(f'{root}: {len(problems) - LISTED:,} more such problems')


def _folder_of(file):
    """The folder of a shard, one for the split that its name has included."""
    folder, name = os.path.split(file)
    named = read_name(os.path.splitext(name)[0])
    return os.path.join(folder, named[0]) if named else folder
