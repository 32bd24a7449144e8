"""Images in tar files, in the layout of webdataset, read one by one.

    000042.jpg 000042.cls 000042.txt 000043.jpg 000043.cls ...

Headers are read once; a table then says where in its shard each image is.
"""
import os
import tarfile
from collections import Counter, defaultdict
from contextlib import suppress
from itertools import chain

import numpy as np

from mmfd.data import stores
from mmfd.data.decode import BrokenImage
from mmfd.data.scan import SUFFIXES, UNREAD, is_junk
from mmfd.data.shards import NO_LABEL, Kind, Listed
from mmfd.data.splits import without_masks
from mmfd.data.stored import StoredImage

ROW = np.dtype([('offset', '<u8'), ('size', '<u4'), ('label', '<i4')])
LABEL = '.cls'  # the suffix of labels
LONGEST_LABEL, LARGEST = 256, 2**32 - 1  # bytes of a label, of an image


class TarMember(StoredImage):
    """An image in a tar; its place is its first byte and how many it has."""

    def content(self, check):
        offset, size = self.place
        check(size)
        data = stores.read(self.file, offset - tarfile.BLOCKSIZE,
                           offset + size)
        try:
            found = _header(data).size  # its sum is right, too
        except tarfile.HeaderError:
            found = None
        data = data[tarfile.BLOCKSIZE:]
        if found != size or len(data) < size:
            raise BrokenImage(f'{self.file} has changed since it was listed: '
                              'the image is not where it was')
        return data


def list_shard(path):
    """The images of a tar, `Listed`: it is one unit.

    Left out are what is no image by its suffix, hidden files and junk, masks
    beside their images, and second images of a sample, as `1.depth.png` is
    beside `1.jpg`. Images of formats that are not read are a problem, and so
    are links and sparse files of the name of an image.
    """
    images, labels, problems = [], defaultdict(list), []
    unread = Counter()
    try:
        with stores.errors_refused(path), stores.open_file(
                path) as file, tarfile.open(
                    fileobj=_Bounded(file), mode='r:') as tar:
            for member in _members(tar, problems):
                stem, suffix = os.path.splitext(member.name)
                if suffix.lower() in SUFFIXES and _is_visible(member.name):
                    if reason := _why_unread(member):
                        unread[reason] += 1
                        continue
                    images.append(
                        (member.name, stem, member.offset_data, member.size))
                elif suffix.lower() in UNREAD and _is_visible(member.name):
                    unread[f'{suffix.lower()} files are images of a format '
                           'that is not read'] += 1
                elif (suffix == LABEL and member.isreg()
                      and member.size <= LONGEST_LABEL):
                    label = tar.extractfile(member).read()
                    labels[stem].append(
                        label.decode('utf-8', 'replace').strip())
    except tarfile.ReadError:
        problems.append('it is no tar, or a compressed one: unpack it with '
                        'gunzip or zstd -d, since images are found by their '
                        'place')
    problems += [f'{count:,} {reason}' for reason, count in unread.items()]
    _, masks = without_masks([name for name, *_ in images])
    masks, stems = {*masks}, {stem for _, stem, *_ in images}
    names = sorted({*chain.from_iterable(labels.values())})
    numbers = {name: number for number, name in enumerate(names)}
    counts, seen, rows = Counter(name for name, *_ in images), Counter(), []
    for name, stem, offset, size in images:
        if name not in masks and not _is_second(stem, stems):
            label = _label(labels, stem, seen[name], counts[name])
            rows.append((offset, size, numbers.get(label, NO_LABEL)))
            seen[name] += 1
    rows = np.array(rows, ROW)
    return Listed(rows, [len(rows)], problems, names)


class _Bounded:
    """An open file that is asked for no more bytes than it has.

    Memory is taken for as many as a damaged header says.
    """

    def __init__(self, file):
        self.file, self.seek, self.tell = file, file.seek, file.tell
        self.length = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size):
        return self.file.read(max(min(size, self.length - self.tell()), 0))


def _members(tar, problems):
    """The sound members of a tar but for folders and devices.

    Behind what is no header the next one is looked for, block by block.
    """
    length = tar.fileobj.length
    while True:
        member = tar.next()
        tar.members.clear()  # else it keeps all
        if member is None:
            tar.fileobj.seek(tar.offset)
            end = tar.fileobj.read(tarfile.BLOCKSIZE)
            if end and not any(end) and not tar.ignore_zeros:
                tar.ignore_zeros = True  # other tars may be behind it
                continue
            if tar.ignore_zeros:
                return
            if not end:
                problems.append(f'it has no end mark after its {length:,} '
                                'bytes, so a part may be missing')
                return
            problems.append(f'at byte {tar.offset:,} of {length:,} it has no '
                            'header where one is due: one image is lost')
            tar.ignore_zeros = True  # and what is no header
        elif member.offset_data + member.size > length:
            problems.append(f'it is cut off within {member.name}, after '
                            f'{length:,} bytes')
            return
        elif member.isreg() or member.islnk() or member.issym():
            yield member


def _why_unread(member):
    """What is said of images that are not stored as they are; else None."""
    if not member.isreg():
        return ('images are links, which are not followed: pack files '
                '(--hard-dereference of tar)')
    if member.issparse() or member.size >= LARGEST:
        return 'images are sparse files, or have 4 GiB and more'


def _is_visible(name):
    """Whether neither a file nor a folder above it is hidden or junk."""
    return not any(
        is_junk(part) for part in name.split('/') if part not in ('', '.'))


def _is_second(stem, stems):
    """Whether a name has a suffix more than that of another image."""
    sample, suffix = os.path.splitext(stem)
    return suffix != '' and sample in stems


def _label(labels, stem, place, count):
    """The label of an image; None if it has none.

    Args:
        labels (dict): stem -> labels, in turn.
        stem (str): of the image.
        place, count (int): which of so many images of this name it is.
    """
    if stem not in labels:
        folder, name = os.path.split(stem)  # of the sample: no suffix at all
        stem = os.path.join(folder, name.split('.')[0])
    if found := labels.get(stem):
        # names come again in shards that were joined; else the last one counts
        return found[place if len(found) == count else -1]


def _image(path, unit, place, row):
    offset, size = int(row['offset']), int(row['size'])
    name = f'image {place:,}'
    if not stores.is_address(path):  # there, each look takes time
        with suppress(OSError, tarfile.HeaderError):  # said when it is read
            name = _header(
                stores.read(path, offset - tarfile.BLOCKSIZE, offset)).name
    return TarMember(f'{path}/{name}', path, offset, size)


def _header(data):
    """The header that some bytes begin with."""
    return tarfile.TarInfo.frombuf(data[:tarfile.BLOCKSIZE], 'utf-8',
                                   'surrogateescape')


KIND = Kind('.tar', ROW, list_shard, _image)
