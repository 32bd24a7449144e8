"""List the images below a folder, and keep the list of a large one."""
import hashlib
import os
import time
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mmfd.data.away import why_away
from mmfd.data.shuffle import hashed
from mmfd.data.splits import without_masks
from mmfd.data.table import keep_table, read_table, sum_of, table_of
from mmfd.errors import Refused
from mmfd.files import LOCK, RUN, cache_folder, check_image_folder
from mmfd.hosts import log

SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.bmp', '.tif',
            '.tiff', '.ppm', '.pgm', '.gif')
# Images that cannot be decoded here, of phones and cameras above all: counted
UNREAD = ('.heic', '.heif', '.avif', '.jxl', '.jp2', '.tga', '.exr', '.dcm',
          '.dng', '.cr2', '.cr3', '.nef', '.arw')
# Files of many images, which are read where there are no others
SHARDS = '.tar', '.parquet'
LISTED = SUFFIXES + UNREAD + SHARDS
# Folders that systems, archives and network drives put among the images, in
# lower case; besides those and all files that begin with a dot
JUNK = {
    '__macosx', 'lost+found', '$recycle.bin', 'recycler', 'recycled',
    'system volume information', 'found.000', 'lost.dir', '@eadir', '@tmp',
    '@__thumb', '@sharebin', '@recycle', '@recently-snapshot', '@sharesnap',
    '#recycle', '#snapshot', '~snapshot', 'network trash folder',
    'temporary items', '__pycache__', '_gsdata_'
}
LARGE = 10_000  # images from which on a list is cached
# A folder that changed less than so many seconds before it was listed may
# change again without another time of change
SETTLED = 2.
CHANGING = -1  # in the place of that folder's time of change
# Of each file: where its name ends among those of its folder, a hash of it
ROW = np.dtype([('end', '<u4'), ('hash', '<u8')])
COLUMNS = dict(names=np.uint8, rows=ROW)


class Folder(NamedTuple):
    """A folder, as it was listed.

    Attributes:
        path (str): relative to the root.
        changed (int): its time of change, ns.
        folders (list[str]): names of those in it.
        images (int): how many lie in it.
        masks (int): how many masks lie beside their images.
        unread (dict): suffix -> how many files of it, shards too.
    """
    path: str
    changed: int
    folders: list
    images: int
    masks: int
    unread: dict


class FolderImages:
    """The images below a folder, each a file. A unit is a folder of them.

    Args:
        root (str): the folder.
        table (Table): of `COLUMNS`, folder by folder, masks behind images. Its
            notes name these folders.

    Attributes:
        folders (list[str]): of each unit, relative to the root.
        counts (ndarray): of the images in each unit, int64.
        left_out (list[str]): what is there and is not among the images.
    """
    in_shards = False

    def __init__(self, root, table):
        self.root, self.table = str(root), table
        self.listed = [Folder(*note) for note in table.notes['listed']]
        # of each folder: its first row and first byte, and those behind it
        files = np.array([f.images + f.masks for f in self.listed], np.int64)
        self.rows = np.append(0, files.cumsum())
        ends = table['rows']['end'][self.rows[1:][files > 0] - 1]
        lengths = np.zeros_like(files)
        lengths[files > 0] = ends
        self.bytes = np.append(0, lengths.cumsum())
        self.units = [i for i, f in enumerate(self.listed) if f.images]
        self.folders = [self.listed[i].path for i in self.units]
        self.counts = np.array([self.listed[i].images for i in self.units],
                               np.int64)
        masks = sum(folder.masks for folder in self.listed)
        self.left_out = [f'{masks:,} masks beside their images'] * bool(masks)
        self.left_out += shards_left_out(_unread(self.listed))

    def path(self, unit, place):
        """The path of the image at a place in a unit."""
        folder = self.units[unit]
        row, start = self.rows[folder] + place, self.bytes[folder]
        ends = self.table['rows']['end']
        begin = ends[row - 1] if place else 0
        name = self.table['names'][start + begin:start + ends[row] - 1]
        return os.path.join(self.root, self.folders[unit],
                            os.fsdecode(name.tobytes()))

    @property
    def watched(self):
        """What `why_away` looks at."""
        return self.root

    def labels(self, unit):
        """The label of each image of a unit: its folder."""
        return np.broadcast_to(unit, self.counts[unit])

    def distinct_labels(self, units):
        """The labels of the images of some units."""
        return units

    def by_name(self, of_labels):
        """What belongs to each label, in the order of their names."""
        return of_labels

    def hashes(self, unit, folder):
        """Hashes of the images' paths relative to a folder, uint64."""
        path = self.folders[unit].removeprefix(folder).strip(os.sep)
        seed = np.uint64(hash_of(os.fsencode(path)))
        return hashed(self._rows(unit)['hash'] ^ seed)

    def identity(self, unit):
        """Bytes that are equal if the images of a unit are."""
        total = sum_of(self._rows(unit))
        return os.fsencode(f'{self.folders[unit]} {total:08x}\0')

    def _rows(self, unit):
        start = self.rows[self.units[unit]]
        return self.table['rows'][start:start + self.counts[unit]]

    def columns_of(self, folder):
        """The names and rows of a listed folder, as arrays."""
        rows = slice(*self.rows[folder:folder + 2])
        names = slice(*self.bytes[folder:folder + 2])
        return self.table['names'][names], self.table['rows'][rows]

    def files(self):
        """The paths of all, with masks, relative to the root, sorted."""
        return sorted(
            os.path.join(folder.path, os.fsdecode(name))
            for i, folder in enumerate(self.listed)
            for name in self.columns_of(i)[0].tobytes().split(b'\0')[:-1])


def find_images(root, log_every=5.):
    """All images below a folder, masks beside them, too.

    Args:
        root (str), log_every (float): as of `list_images`.

    Returns:
        list[str]: paths relative to `root`, sorted.

    Raises:
        Refused: if a folder cannot be listed.
    """
    return list_images(root, log_every).files()


def list_images(root, log_every=5.):
    """The images below a folder, by suffix in any case.

    A line in the log counts those of formats that are not read (`UNREAD`).
    Hidden files and folders are left out, the `JUNK` of systems, and folders
    in which a run writes, whose pictures are its curves. Links are
    followed, loops of links are not. The list of 10,000 images or more is
    kept in `$XDG_CACHE_HOME/mmfd/scans` (else `~/.cache/mmfd/scans`): the
    next call only lists the folders that have changed.

    Args:
        root (str): folder.
        log_every (float): seconds between lines of progress in the log.

    Returns:
        FolderImages: sorted by folder and name.

    Raises:
        Refused: if a folder cannot be listed.
    """
    check_image_folder(root)
    kept = _read_cache(root)
    known = {folder.path: i for i, folder in enumerate(kept.listed)}
    found, files = [], 0  # (Folder, its columns)
    logged, start = time.monotonic(), time.time()
    to_list = [('', frozenset())]  # folder, identities of those above it
    while to_list:
        path, above = to_list.pop()
        before = known.get(path)
        before = None if before is None else kept.listed[before]
        folder, names, identity = _list(root, path, before, start)
        if identity in above:  # a link that leads to a folder above itself
            continue
        found.append((folder, kept.columns_of(known[path])
                      if names is None else _columns(names)))
        files += folder.images + folder.masks
        to_list += [(os.path.join(path, name), above | {identity})
                    for name in folder.folders]
        if time.monotonic() - logged > log_every:
            logged = time.monotonic()
            log.info(f'{root}: {files:,} images in {len(found):,} '
                     'folders so far')
    found.sort(key=lambda of: os.path.join(of[0].path, ''))
    if [folder for folder, _ in found] != kept.listed:
        table = (
            keep_table(_cache_file(root), lambda: _make(found), root)
            if files >= LARGE else table_of(*_make(found)))
        kept = FolderImages(root, table)
    _say_unread(str(root), kept.listed)
    return kept


def _columns(names):
    """Names and `ROW`s of the files of a folder."""
    rows = np.empty(len(names), ROW)
    rows['end'] = np.cumsum([len(name) + 1 for name in names])
    rows['hash'] = [*map(hash_of, names)]
    joined = b''.join(name + b'\0' for name in names)
    return np.frombuffer(joined, np.uint8), rows


def _make(found):
    """Columns and notes of a table, of folders and their columns."""
    columns = {
        name: (dtype, [columns[i] for _, columns in found])
        for i, (name, dtype) in enumerate(COLUMNS.items())
    }
    return columns, lambda: dict(listed=[folder for folder, _ in found])


def hash_of(name):
    """A number for a name in bytes, the same everywhere, of 64 bits."""
    digest = hashlib.blake2b(name, digest_size=8).digest()
    return int.from_bytes(digest, 'little')


def is_junk(name):
    """Whether a file or folder is hidden, or a system has put it there."""
    return name.startswith('.') or name.lower() in JUNK


def shards_left_out(counts):
    """Lines on shards that are not looked into, of suffix -> how many."""
    return [f'{counts[s]:,} {s} files' for s in SHARDS if counts.get(s)]


def _unread(listed):
    counts = Counter()
    for folder in listed:
        counts.update(folder.unread)
    return counts


_said = set()  # once, though each split looks at all


def _say_unread(root, listed):
    counts = _unread(listed)
    found = ', '.join(f'{counts[suffix]:,} {suffix}'
                      for suffix in sorted(counts) if suffix not in SHARDS)
    if found and (root, found) not in _said:
        _said.add((root, found))
        log.warn(f'{root}: {found} files are images of formats that are not '
                 'read, and left out: convert them to JPEG or PNG')


@lru_cache(None)
def _say_left_out(path):
    log.info(f'{path} is the folder of a run: left out')


def _list(root, path, known, now):
    """A folder as it is now.

    Args:
        known (Folder): as it was listed before, or None.
        now (float): time when this scan began, in seconds.

    Returns:
        tuple: `Folder`; the names of its images and, behind them, its masks,
        or None if it is as it was known; identity.
    """
    full = os.path.join(root, path)
    names, folders = [], []
    try:
        status = os.stat(full)
        identity = status.st_dev, status.st_ino
        # unlike the time of modification, nobody can set that of change
        if known and known.changed == status.st_ctime_ns:
            return known, None, identity
        with os.scandir(full) as listing:
            entries = [*listing]
        if path and {RUN, LOCK} <= {entry.name for entry in entries}:
            _say_left_out(full)
            entries = []
        for entry in entries:
            if is_junk(entry.name):
                continue
            if _is_folder(entry):
                folders.append(entry.name)
            elif entry.name.lower().endswith(LISTED) and (entry.is_symlink()
                                                          or entry.is_file()):
                names.append(entry.name)
    except OSError as error:
        gone = path and not os.path.lexists(os.path.realpath(full))
        if gone and not why_away([root]):  # a link to what has gone
            return Folder(path, CHANGING, [], 0, 0, {}), [], None
        raise Refused(f'cannot list the image folder {full}: '
                      f'{error.strerror}; grant the right to read it, or '
                      'name another with --data-root') from None
    settled = now - status.st_ctime > SETTLED
    read = [name for name in names if name.lower().endswith(SUFFIXES)]
    images, masks = without_masks(read)
    unread = Counter(
        os.path.splitext(name)[1].lower() for name in {*names} - {*read})
    folder = Folder(path, status.st_ctime_ns if settled else CHANGING,
                    sorted(folders), len(images), len(masks), dict(unread))
    in_order = sorted(map(os.fsencode, images)) + sorted(
        map(os.fsencode, masks))
    return folder, in_order, identity


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _cache_file(root):
    # a list that was made by other rules is in another file
    made_of = f'{os.path.realpath(root)} {sorted(JUNK)} {LISTED} {RUN} {ROW}'
    name = hashlib.sha256(os.fsencode(made_of)).hexdigest()
    return cache_folder('scans') / f'{name[:32]}.table'


def _read_cache(root):
    """The images as they were listed before; none, if they were not."""
    table = read_table(_cache_file(root), COLUMNS)
    return FolderImages(root, table or table_of(*_make([])))
