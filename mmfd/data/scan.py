"""Which images lie below a folder: found once, then remembered."""
import hashlib
import json
import logging
import os
import time

from mmengine.logging import print_log

from mmfd.errors import Refused
from mmfd.files import cache_folder, written_whole

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.ppm',
            '.pgm', '.gif')
REMEMBERED = 10_000  # images from which on a scan is worth a file
SETTLED = 2.  # seconds after which a folder's time of change can be trusted


def find_images(root, tell_every=5.):
    """All images below a folder, by suffix in any case.

    Hidden files and folders are left out. Links are followed, loops of links
    are not. From 10,000 images on, what was found is remembered under
    `$XDG_CACHE_HOME/mmfd` (else `~/.cache/mmfd`), so the next call only asks
    each folder whether it changed, and lists those that did.

    Args:
        root (str): folder.
        tell_every (float): seconds between lines of progress in the log.

    Returns:
        list[str]: paths relative to `root`, sorted.

    Raises:
        Refused: if a folder cannot be listed.
    """
    if not os.path.isdir(root):
        raise Refused(
            f'no image folder {root}: name another with --data-root (with '
            '--images in tools/analyze.py)')
    memory, listings, images = _recall(root), {}, []
    told, start = time.monotonic(), time.time()
    above = [('', frozenset())]
    while above:
        folder, ancestors = above.pop()
        changed, names, subfolders, inode = _list(root, folder,
                                                  memory.get(folder), start)
        if inode in ancestors:  # a link that leads to a folder above itself
            continue
        listings[folder] = changed, names, subfolders
        images += [os.path.join(folder, name) for name in names]
        above += [(os.path.join(folder, name), ancestors | {inode})
                  for name in subfolders]
        if time.monotonic() - told > tell_every:
            told = time.monotonic()
            print_log(
                f'{root}: {len(images):,} images in {len(listings):,} '
                'folders so far', 'current')
    if len(images) >= REMEMBERED and listings != memory:
        _remember(root, listings)
    return sorted(images)


def _list(root, folder, known, now):
    """A folder's time of change, images, subfolders and identity."""
    path = os.path.join(root, folder)
    try:
        status = os.stat(path)
        inode = status.st_dev, status.st_ino
        if known and known[0] == status.st_ctime_ns:  # nobody can set it
            return *known, inode
        names, subfolders = [], []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith('.'):
                    continue
                if _is_folder(entry):
                    subfolders.append(entry.name)
                elif entry.name.lower().endswith(SUFFIXES) and (
                        entry.is_symlink() or entry.is_file()):
                    names.append(entry.name)
    except OSError as error:
        if folder and not os.path.lexists(os.path.realpath(path)):
            return -1, [], [], None  # what a link led to has gone
        raise Refused(f'cannot list the image folder {path}: '
                      f'{error.strerror}; grant the right to read it, or '
                      'name another with --data-root') from None
    # what is being written to while it is listed has to be listed again
    settled = now - status.st_ctime > SETTLED
    return status.st_ctime_ns if settled else -1, names, subfolders, inode


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _memory_of(root):
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()
    return cache_folder('scans') / f'{name[:32]}.json'


def _recall(root):
    """What is remembered of a folder: nothing if it cannot be read."""
    try:
        with open(_memory_of(root), encoding='ascii') as file:
            memory = json.load(file)
        return {folder: tuple(listing) for folder, listing in memory.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _remember(root, listings):
    file = _memory_of(root)
    try:
        with written_whole(file) as beside:
            beside.write_text(json.dumps(listings), encoding='ascii')
    except OSError as error:
        print_log(
            f'the scan of {root} could not be remembered in {file}: '
            f'{error.strerror}. It will be made again next time; set '
            'XDG_CACHE_HOME to a folder with room', 'current', logging.WARNING)
