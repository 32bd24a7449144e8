"""What a data root names: a folder, with images or shards in it, or shards."""
import glob
import os
import re
from collections import Counter
from fnmatch import fnmatchcase

from mmfd.data import kept_objects, parquet_shards, stores, tar_shards
from mmfd.data.scan import SUFFIXES, list_images, shards_left_out
from mmfd.data.shards import ShardImages, find_files
from mmfd.errors import Refused
from mmfd.files import check_image_folder

RANGE = re.compile(r'\{(\d+)\.\.(\d+)\}')  # as in `{00000..01242}.tar`
MOST = 1_000_000  # files of a range
SERIES = re.compile(r'(.*)-\d+-of-(\d+)\.\w+')  # Hugging Face's names
KINDS = {kind.suffix: kind for kind in (tar_shards.KIND, parquet_shards.KIND)}
PACKED = '.tar.gz', '.tgz', '.tar.zst', '.tar.xz', '.tar.bz2'


def open_root(root):
    """What there is below a root: images, or else shards of images.

    Args:
        root (str): folder of images, or of shards, a shard, or a pattern of
            shards, as `{000..063}.tar` or `*.parquet`; or an address of
            shards.

    Returns:
        FolderImages | ShardImages: of one image at least.

    Raises:
        Refused: if there is no image, or it cannot be read.
    """
    kept_objects.limit()  # a wrong one is said here
    if _is_folder(root):
        folder = os.fspath(root)
        if not stores.is_address(root):
            images = list_images(root)
            if len(images.counts):
                return images
        names = find_files(folder, (*KINDS, *PACKED, *SUFFIXES))
    else:
        paths = shards_of(root)
        folder = _folder_of(paths)
        names = [os.path.relpath(path, folder) for path in paths]
    for suffix, kind in KINDS.items():
        if files := _ending(names, suffix):
            images = ShardImages(kind, folder, files)
            if images.counts.sum():
                images.left_out += shards_left_out({
                    other:
                    len(_ending(names, other))
                    for other in KINDS if other != suffix
                })
                images.left_out += _lacking(files)
                return images
            raise _no_images(
                root,
                f'{", ".join(SUFFIXES)} in {len(files):,} {suffix} files')
    if packed := _ending(names, PACKED):
        raise Refused(
            f'{root} has {len(packed):,} packed files ({packed[0]}): unpack '
            'them with gunzip, zstd -d or xz -d into .tar files, since images '
            'are found by their place')
    if names:
        raise Refused(
            f'{root} has {len(names):,} images as objects of their own '
            f'({names[0]}), each of which would be a request: put them into '
            'shards, as docs/scale.md says, or copy them to a folder')
    raise _no_images(root, ', '.join((*SUFFIXES, *KINDS)))


def _lacking(files):
    """Lines on files that others count in their names, `0003-of-0010`."""
    counts = Counter((found[1], found[2])
                     for found in map(SERIES.fullmatch, files) if found)
    return [
        f'{int(total) - count:,} more files of {name}-*-of-{total}'
        for (name, total), count in counts.items() if count < int(total)
    ]


def _no_images(root, looked):
    return Refused(f'no images in {root} (looked for {looked}): name another '
                   'with --data-root')


def _ending(names, suffixes):
    return [name for name in names if name.endswith(suffixes)]


def check_root(root):
    """Refuse what is no folder, no shard and no pattern of shards.

    A store is not asked yet.

    Raises:
        Refused: which names the options that name such.
    """
    if stores.is_address(root):
        stores.check_address(root)
    elif not os.path.isdir(root):
        shards_of(root)


def shards_of(root):
    """The files of a shard, or of a pattern such as `{000..063}.tar`, `*.tar`.

    Returns:
        list[str]: paths of shards of one kind, sorted.

    Raises:
        Refused: if there are none, or not all that a range names.
    """
    text = os.fspath(root)
    look = _glob_store if stores.is_address(text) else glob.glob
    files = [
        file for name in _in_range(text)
        for file in (look(name) if _is_pattern(name) else [name])
    ]
    if missing := [
            file for file in files
            if not stores.is_address(file) and not os.path.isfile(file)
    ]:
        if len(missing) < len(files):
            raise Refused(f'{root} names {len(files):,} files, of which '
                          f'{len(missing):,} are not there: {missing[0]}')
        files = []
    kinds = {os.path.splitext(file)[1] for file in files}
    if len(kinds) == 1 and kinds <= KINDS.keys():
        return sorted(files)
    if kinds:
        raise Refused(f'{root} names {" and ".join(sorted(kinds))} files: '
                      f'expected are {" or ".join(KINDS)} files of one kind, '
                      'or a folder')
    if '{' in text:
        raise Refused(f'no shards {root}: in braces a range of numbers is '
                      'expected, as {0000..0063}')
    if stores.is_address(root):
        raise Refused(f'no shards {root}: name others with --data-root')
    check_image_folder(root)


def _is_pattern(name):
    """Whether a name stands for others; brackets may be in that of a file."""
    return glob.has_magic(name) and not os.path.isfile(name)


def _is_folder(root):
    """Whether a root is a folder, or the address of one."""
    if not stores.is_address(root):
        return os.path.isdir(root)
    stores.check_address(root)
    return os.path.splitext(root)[1] not in KINDS


def _folder_of(paths):
    """The folder that all of several files are in."""
    found = stores.ADDRESS.match(paths[0])
    scheme = found[0] if found else ''
    folders = [os.path.dirname(path[len(scheme):]) for path in paths]
    return scheme + os.path.commonpath(folders) or '.'


def _glob_store(pattern):
    """The objects in a store that a pattern names, folder by folder."""
    folder = pattern[:re.search(r'[*?[]', pattern).start()].rpartition('/')[0]
    parts = pattern[len(folder) + 1:].split('/')
    return [
        f'{folder}/{name}' for name in stores.find(folder)
        if len(names := name.split('/')) == len(parts)
        and all(map(fnmatchcase, names, parts))
    ]


def _in_range(text):
    """A path with a range of numbers in braces, as many paths."""
    if not (found := RANGE.search(text)):
        return [text]
    first, last = found.groups()
    if int(first) > int(last):
        raise Refused(f'{text}: the range {found[0]} has no number in it, '
                      'write the lower one first')
    if int(last) - int(first) > MOST:
        raise Refused(f'{text}: the range {found[0]} has more than {MOST:,} '
                      'numbers; are there so many files?')
    return [
        name for number in range(int(first),
                                 int(last) + 1)
        for name in _in_range(text[:found.start()] +
                              f'{number:0{len(first)}}' + text[found.end():])
    ]
