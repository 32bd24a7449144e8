"""Objects of stores that are kept whole on the local disk, within a bound.

`MMFD_CACHE_GB` says how many GB they may take, in
`$XDG_CACHE_HOME/mmfd/objects` (else `~/.cache/mmfd/objects`), which all
processes of a machine share. Those that were not used for longest make room.
Without it none is kept.
"""
import hashlib
import os
import time
from contextlib import ExitStack, suppress

from mmfd.errors import Refused
from mmfd.files import cache_folder, is_own, make_own_folder, written_whole
from mmfd.hosts import log, system
from mmfd.hosts.object_stores import StoreError

LIMIT = 'MMFD_CACHE_GB'
PIECE = 1 << 25  # bytes that are asked for at once
OWN = 0o600  # permissions: whoever may read the cache need not be let in there
PART, LOCK = '.part', 'lock'
ABANDONED = 600.  # seconds after which nobody writes to a part any more
USED = 60.  # seconds between two notes that a file is used

_without = []  # why this process keeps none


def limit():
    """Bytes that kept objects may take; 0 if none are kept.

    Raises:
        Refused: if the environment says it in no number.
    """
    text = os.environ.get(LIMIT) or '0'
    try:
        gigabytes = float(text)
        if 0 <= gigabytes < float('inf'):
            return int(gigabytes * 1e9)
    except ValueError:
        pass  # what it is instead, the message says
    raise Refused(f'{LIMIT}={text}: expected is a number of GB, such as 200')


def opened(of, fetch):
    """An object as a local file, which is fetched first where it is not there.

    Args:
        of (Object): which one.
        fetch (callable): (start, stop) -> its bytes.

    Returns:
        file object | None: None if it is not kept: it is too large, there is
        no room, or another process is fetching it.
    """
    most = limit()
    if not 0 < of.size <= most or _without:
        return None
    name = hashlib.sha256(f'{of} {of.stamp}'.encode()).hexdigest()[:32]
    path = cache_folder('objects') / name
    try:
        if is_own(path) or _fetch(path, of.size, fetch, most):
            file = open(path, 'rb')
            _note_use(file)
            return file
    except StoreError:
        raise
    except FileNotFoundError:
        return None  # it has just made room for another
    except OSError as error:
        _without.append(error.strerror)
        log.warn(f'objects cannot be kept in {path.parent}: {error.strerror}. '
                 'They are read from their store each time; make room, or set '
                 f'XDG_CACHE_HOME or a smaller {LIMIT}')
    return None


def _fetch(path, size, fetch, most):
    """Write a file; say whether that was done."""
    make_own_folder(path.parent)
    with ExitStack() as stack:
        with open(path.parent / LOCK, 'a') as lock:
            if system.lock(lock.fileno()) is False:
                return False
            if is_own(path):
                return True
            if not _make_room(path, size, most):
                return False
            part = stack.enter_context(
                written_whole(path, durable=False, mode=OWN))
            os.truncate(part, size)  # so that others count it
        with open(part, 'r+b') as file:
            for start in range(0, size, PIECE):
                file.write(fetch(start, min(start + PIECE, size)))
    return True


def _make_room(path, size, most):
    """Remove what was not used for longest; say whether there is room now."""
    files = []
    for entry in os.scandir(path.parent):
        if entry.name == LOCK:
            continue
        status = entry.stat()
        age = time.time() - status.st_mtime
        if entry.name.endswith(PART) and age < ABANDONED:
            if entry.name.startswith(path.name):
                return False  # another process fetches it
            most -= status.st_size
        else:
            files.append((age, status.st_size, entry.path))
    taken = sum(length for _, length, _ in files)
    if size > most:
        return False
    for _, length, old in sorted(files, reverse=True):
        if taken + size <= most:
            break
        with suppress(FileNotFoundError):
            os.unlink(old)
        taken -= length
    return True


def _note_use(file):
    if time.time() - os.fstat(file.fileno()).st_mtime > USED:
        with suppress(OSError):
            os.utime(file.fileno())
