"""List the images below a folder, and cache the list of a large one."""
import hashlib
import json
import os
import re
import time
from collections import Counter
from functools import lru_cache

from mmfd.data.away import why_away
from mmfd.errors import Refused
from mmfd.files import (LOCK, OWN_FILE, RUN, cache_folder, check_image_folder,
                        make_own_folder, read_own, written_whole)
from mmfd.hosts import log

SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.bmp', '.tif',
            '.tiff', '.ppm', '.pgm', '.gif')
# Images that cannot be decoded here, of phones and cameras above all: counted
UNREAD = ('.heic', '.heif', '.avif', '.jxl', '.jp2', '.tga', '.exr', '.dcm',
          '.dng', '.cr2', '.cr3', '.nef', '.arw')
LISTED = SUFFIXES + UNREAD
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


def find_images(root, log_every=5.):
    """All images below a folder, by suffix in any case.

    A line in the log counts those of formats that are not read (`UNREAD`).
    Hidden files and folders are left out, the `JUNK` of systems, and folders
    in which a run writes, whose pictures are its curves. Links are
    followed, loops of links are not. The list of 10,000 images or more is
    cached in `$XDG_CACHE_HOME/mmfd/scans` (else `~/.cache/mmfd/scans`): the
    next call only lists the folders that have changed.

    Args:
        root (str): folder.
        log_every (float): seconds between lines of progress in the log.

    Returns:
        list[str]: paths relative to `root`, sorted.

    Raises:
        Refused: if a folder cannot be listed.
    """
    check_image_folder(root)
    cached, listings = _read_cache(root), {}
    images, unread = [], Counter()
    logged, start = time.monotonic(), time.time()
    to_list = [('', frozenset())]  # folder, identities of those above it
    while to_list:
        folder, above = to_list.pop()
        changed, names, subfolders, identity = _list(root, folder,
                                                     cached.get(folder), start)
        if identity in above:  # a link that leads to a folder above itself
            continue
        listings[folder] = changed, names, subfolders
        for name in names:
            if name.lower().endswith(SUFFIXES):
                images.append(os.path.join(folder, name))
            else:
                unread[os.path.splitext(name)[1].lower()] += 1
        to_list += [(os.path.join(folder, name), above | {identity})
                    for name in subfolders]
        if time.monotonic() - logged > log_every:
            logged = time.monotonic()
            log.info(f'{root}: {len(images):,} images in {len(listings):,} '
                     'folders so far')
    if len(images) >= LARGE and listings != cached:
        _write_cache(root, listings)
    if unread:
        _say_unread(str(root), tuple(sorted(unread.items())))
    return sorted(images)


@lru_cache(None)  # once, though each split looks at all
def _say_unread(root, counts):
    found = ', '.join(f'{count:,} {suffix}' for suffix, count in counts)
    log.warn(f'{root}: {found} files are images of formats that are not read, '
             'and left out: convert them to JPEG or PNG')


@lru_cache(None)
def _say_left_out(path):
    log.info(f'{path} is the folder of a run: left out')


def _list(root, folder, cached, now):
    """A folder's time of change (ns), images, subfolders and identity.

    Args:
        cached (tuple): the first three of the last scan, or None.
        now (float): time when this scan began, in seconds.
    """
    path = os.path.join(root, folder)
    try:
        status = os.stat(path)
        identity = status.st_dev, status.st_ino
        # unlike the time of modification, nobody can set that of change
        if cached and cached[0] == status.st_ctime_ns:
            return *cached, identity
        names, subfolders = [], []
        with os.scandir(path) as listing:
            entries = [*listing]
        if folder and {RUN, LOCK} <= {entry.name for entry in entries}:
            _say_left_out(path)
        else:
            for entry in entries:
                if entry.name.startswith('.') or entry.name.lower() in JUNK:
                    continue
                if _is_folder(entry):
                    subfolders.append(entry.name)
                elif entry.name.lower().endswith(LISTED) and (
                        entry.is_symlink() or entry.is_file()):
                    names.append(entry.name)
    except OSError as error:
        gone = folder and not os.path.lexists(os.path.realpath(path))
        if gone and not why_away([root]):
            return CHANGING, [], [], None  # a link to what has gone
        raise Refused(f'cannot list the image folder {path}: '
                      f'{error.strerror}; grant the right to read it, or '
                      'name another with --data-root') from None
    settled = now - status.st_ctime > SETTLED
    changed = status.st_ctime_ns if settled else CHANGING
    return changed, names, subfolders, identity


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _cache_file(root):
    # a list that was made by other rules is in another file
    made_of = f'{os.path.realpath(root)} {sorted(JUNK)} {LISTED} {RUN}'
    name = hashlib.sha256(os.fsencode(made_of)).hexdigest()
    return cache_folder('scans') / f'{name[:32]}.json'


def _read_cache(root):
    """Folder -> its listing in the last scan, of those that are sound."""
    try:
        cached = json.loads(read_own(_cache_file(root)) or b'{}')
    except (ValueError, RecursionError):  # damaged
        return {}
    cached = cached.items() if isinstance(cached, dict) else ()
    return {
        folder: tuple(listing)
        for folder, listing in cached if _is_listing(listing)
    }


def _is_listing(listing):
    """Whether this is what `_list` found: nothing outside of its folder."""
    if not isinstance(listing, list) or len(listing) != 3:
        return False
    changed, names, subfolders = listing
    if type(changed) is not int or not (isinstance(names, list)
                                        and isinstance(subfolders, list)):
        return False
    return all(
        isinstance(name, str) and re.match(r'[^./\0][^/\0]*\Z', name)
        for name in names + subfolders) and all(name.lower().endswith(LISTED)
                                                for name in names)


def _write_cache(root, listings):
    path = _cache_file(root)
    try:
        make_own_folder(path.parent)
        with written_whole(path, durable=False, mode=OWN_FILE) as temporary:
            temporary.write_text(json.dumps(listings), encoding='ascii')
    except OSError as error:
        # only a help, so the run goes on without it
        log.warn(
            f'the list of images in {root} could not be cached in {path}: '
            f'{error.strerror}. They will be listed again next time; set '
            'XDG_CACHE_HOME to a folder of your own with room')
