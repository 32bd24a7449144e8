"""Images that lie in shards: files that hold many of them each."""
import hashlib
import os
import time
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Callable, NamedTuple

import numpy as np

from mmfd.data import stores
from mmfd.data.scan import hash_of, is_junk
from mmfd.data.shuffle import hashed
from mmfd.data.splits import read_name
from mmfd.data.table import keep_table, read_table, sum_of
from mmfd.files import cache_folder
from mmfd.hosts import log

NO_LABEL = -1
RULES = 5  # to be raised where shards are listed in another way
LISTED = 5  # problems that are said, of all
LOG_EVERY = 5.  # seconds between lines of progress in the log
AT_ONCE = 8  # shards that are listed side by side: mounts and stores are slow


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
        listed (callable): file -> `Listed`.
        image (callable): (file, unit of the shard, place in it, row) ->
            `StoredImage`. Files are as of `stores.located`.
    """
    suffix: str
    row: np.dtype
    listed: Callable
    image: Callable


class Listed(NamedTuple):
    """What a shard was found to hold.

    Attributes:
        rows (ndarray): of its images, with labels by their place in `labels`.
        counts (list[int]), problems (list[str]): as of a `Shard`.
        labels (list[str]): names of labels.
    """
    rows: np.ndarray
    counts: list
    problems: list
    labels: list


class ShardImages:
    """The images in shards of one kind. A unit is what is read in one go.

    What a shard holds is looked up once, and kept in
    `$XDG_CACHE_HOME/mmfd/shards` (else `~/.cache/mmfd/shards`).

    Args:
        kind (Kind): of the shards.
        root (str): a folder.
        files (list[str]): of the shards, relative to it.

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

    def __init__(self, kind, root, files):
        self.kind, self.root = kind, str(root)
        self.table = _table(kind, self.root, files)
        self.shards = [Shard(*note) for note in self.table.notes['shards']]
        self.label_names = self.table.notes['labels']
        # their numbers are in the order in which they were met
        self.label_marks = np.array([*map(_mark, self.label_names), NO_LABEL],
                                    np.int32)
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
        return self.kind.image(*self.units[unit], int(place), row)

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

    def by_name(self, of_labels):
        """What belongs to each label of an image, in the order of their names.

        Their numbers are in the order in which they were met, and those that
        no image has any more keep theirs.
        """
        names = [*self.label_names, '']
        used = self.distinct_labels(range(len(self.units)))
        return of_labels[sorted(used, key=names.__getitem__)]

    def hashes(self, unit, folder):
        """Hashes of the images' shard and place in it, uint64."""
        file, part = self.units[unit]
        name = os.path.relpath(file, os.path.join(self.root, folder))
        seed = np.uint64(hash_of(os.fsencode(f'{name} {part}')))
        return hashed(seed
                      ^ hashed(np.arange(self.counts[unit], dtype=np.uint64)))

    def identity(self, unit):
        """Bytes that are equal if the images of a unit are."""
        file, part = self.units[unit]
        name = f'{os.path.relpath(file, self.root)} {part}'
        rows = self._rows(unit).copy()
        rows['label'] = self.label_marks[rows['label']]
        return os.fsencode(f'{name} {sum_of(rows):08x}\0')

    def _rows(self, unit):
        start = self.starts[unit]
        return self.table['rows'][start:start + self.counts[unit]]


def find_files(root, suffixes):
    """The files below a folder, by suffix, without hidden ones and junk.

    Args:
        root (str): folder, or address of one.
        suffixes (tuple[str]): of names, in lower case.

    Returns:
        list[str]: paths relative to the root, sorted.
    """
    if stores.is_address(root):
        return [
            name for name in stores.find(root) if name.endswith(suffixes)
            and not any(map(is_junk, name.split('/')))
        ]
    found, above = [], {}  # folder -> identities of it and of those above it
    for folder, folders, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        identity = status.st_dev, status.st_ino
        over = above.get(
            os.path.join(os.path.dirname(folder), ''), frozenset())
        if identity in over:  # a link that leads to a folder above itself
            folders.clear()
            continue
        above[os.path.join(folder, '')] = over | {identity}
        folders[:] = [name for name in folders if not is_junk(name)]
        found += [
            os.path.relpath(os.path.join(folder, name), root) for name in names
            if name.endswith(suffixes) and not is_junk(name)
        ]
    return sorted(found)


def table_file(kind, root, files):
    """Where the table of some shards is kept, a Path."""
    place = root if stores.is_address(root) else os.path.realpath(root)
    name = f'{place} {kind.suffix} {kind.row} {RULES} {files}'
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return cache_folder('shards') / f'{digest[:32]}.table'


def _table(kind, root, files):
    """A table with a row for each image, from the cache where it is right."""
    path = table_file(kind, root, files)
    known = read_table(path, dict(rows=kind.row))
    stamps = stores.stamps(root, files)
    if known and stamps == [s[1] for s in known.notes['shards']]:
        return known
    return keep_table(path,
                      lambda: _make(kind, root, [*zip(files, stamps)], known),
                      root)


def _make(kind, root, files, known):
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

    def listed(of):
        """What is in a shard; None if it is known."""
        file, stamp = of
        shard, _ = old.get(file, (None, 0))
        if shard is None or shard.stamp != stamp:
            return kind.listed(stores.located(root, file, stamp))

    def rows():
        logged = begun = time.monotonic()
        images = 0
        for (file, stamp), found in zip(files, _ahead(listed, files)):
            if found is None:
                shard, start = old[file]
                found = known['rows'][start:start + sum(shard.counts)]
            else:
                shard = Shard(file, stamp, found.counts, found.problems)
                found = _numbered(found, labels)
            shards.append(shard)
            images += len(found)
            yield found
            now = time.monotonic()
            if now - logged > LOG_EVERY:
                logged, done = now, len(shards) / len(files)
                log.info(f'{root}: {images:,} images in {len(shards):,} of '
                         f'{len(files):,} shards, '
                         f'{(now - begun) * (1 / done - 1):,.0f} s left')

    return dict(rows=(kind.row, rows())), lambda: dict(
        shards=shards, labels=[*labels])


def _ahead(function, items):
    """What a function gives for each of some items, in order, as a generator.

    A few are computed ahead in threads, and no more, for the memory's sake.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == 2 * AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def _numbered(found, labels):
    """The rows of a shard, with numbers of labels that all shards share.

    Args:
        found (Listed): of the shard.
        labels (dict): name -> number, of all shards; new ones are added.
    """
    numbers = [labels.setdefault(name, len(labels)) for name in found.labels]
    found.rows['label'] = np.array([*numbers, NO_LABEL])[found.rows['label']]
    return found.rows


@lru_cache(None)  # once, though each split looks at all
def _say(root, problems):
    """Warn of what is broken in shards: pairs of name and reason."""
    for file, problem in problems[:LISTED]:
        log.warn(f'{os.path.join(root, file)}: {problem}')
    if len(problems) > LISTED:
        log.warn(f'{root}: {len(problems) - LISTED:,} more such problems')


def _mark(label):
    """A number for a name, the same everywhere, int32."""
    return zlib.crc32(os.fsencode(label)) - 2**31


def _folder_of(file):
    """The folder of a shard, one for the split that its name has included."""
    folder, name = os.path.split(file)
    named = read_name(os.path.splitext(name)[0])
    return os.path.join(folder, named[0]) if named else folder
