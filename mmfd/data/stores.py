"""Parts of files, and of objects in a store, such as `s3://bucket/0001.tar`.

Credentials come from the environment, as the libraries of each store read
them, and never with an address, so an address can be shown and logged.
"""
import errno
import io
import os
import random
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from urllib.parse import urlsplit

from mmfd.data import kept_objects
from mmfd.data.decode import BrokenImage
from mmfd.errors import Refused
from mmfd.files import os_errors_refused
from mmfd.hosts import log, object_stores
from mmfd.hosts.object_stores import StoreError

ADDRESS = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://')
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.  # seconds between two tries
PATIENCE = 60.  # seconds within which a store is asked again
LOG_EVERY = 60.  # seconds between lines in the log
AT_ONCE = 16  # objects whose stamps are asked for
AHEAD = 1 << 23  # bytes that are read at once where files are read in turn

_retried = Counter()  # reason -> how often this process asked again
_logged = [float('-inf')]  # when the log said so


class Object(str):
    """The address of an object, as it was when it was listed.

    Args:
        address (str): of it.
        stamp (list): of `object_stores.get`.
    """

    def __new__(cls, address, stamp):
        self = super().__new__(cls, address)
        self.stamp = stamp
        return self

    def __reduce__(self):
        return Object, (str(self), self.stamp)

    @property
    def size(self):
        return self.stamp[0]


def is_address(path):
    """Whether this is an address in a store, not a path."""
    return ADDRESS.match(os.fspath(path)) is not None


def check_address(address):
    """Refuse an address of an unknown kind, and one with a secret in it.

    Raises:
        Refused: which shows no part of it that may be secret.
    """
    kind = object_stores.protocol(address)
    if kind not in object_stores.PACKAGES:
        known = ', '.join(f'{name}://' for name in object_stores.PACKAGES)
        raise Refused(f'{kind}:// addresses are not read: expected are '
                      f'{known}, or folders')
    parts = urlsplit(address)
    if '@' in parts.netloc or '?' in address or '#' in address:
        host = parts.netloc.rpartition('@')[2]
        raise Refused(
            f'{kind}://{host}{parts.path} came with a password or with a '
            'query behind a ?, which logs and configs would keep: put '
            'credentials into the environment, as docs/scale.md says')


def located(root, file, stamp):
    """A file of a root, to be read: its path, or an `Object`."""
    path = os.path.join(root, file)
    return Object(path, stamp) if is_address(root) else path


def stamps(root, files):
    """What tells whether files have changed.

    Args:
        root (str), files (list[str]): relative to it.

    Returns:
        list[list]: of each file its bytes, and its time of change or a text.

    Raises:
        Refused: if one cannot be read.
    """
    paths = [os.path.join(root, file) for file in files]
    if not is_address(root):
        return [*map(_stamp, paths)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [*pool.map(_stamp, paths)]


def find(folder):
    """Paths of the objects below an address, relative to it, sorted.

    Raises:
        Refused: if they cannot be listed.
    """
    if object_stores.protocol(folder) in ('http', 'https'):
        raise Refused(f'{folder}: a web server lists no files: name them, as '
                      '{0000..0063}.tar')
    try:
        return _patiently(folder, lambda: object_stores.find(folder))
    except StoreError as error:
        raise Refused(f'cannot list {folder}: {error.strerror}; name another '
                      'with --data-root') from None


def read(file, start, stop):
    """Bytes of a file from one to before another, fewer where it ends.

    Args:
        file (str): path, or `Object`.

    Raises:
        BrokenImage: if an object has changed since it was listed.
        OSError: if they cannot be read.
    """
    with open_file(file, keep=True, ahead=0) as opened:
        opened.seek(start)
        return opened.read(stop - start)


def open_file(file, keep=False, ahead=AHEAD):
    """Open a file to read bytes anywhere in it.

    Args:
        file (str): path, or `Object`.
        keep (bool): keep an object whole on the local disk, where
            `kept_objects` may.
        ahead (int): bytes of an object that are read at once, at least.

    Returns:
        file object
    """
    if not isinstance(file, Object):
        return open(file, 'rb')
    kept = keep and kept_objects.opened(
        file, lambda start, stop: _part(file, start, stop))
    return kept or ObjectFile(file, ahead)


class ObjectFile(io.RawIOBase):
    """An object of a store as a file, which is read ahead.

    Args:
        of (Object): which one.
        ahead (int): bytes to read at once, at least.
    """

    def __init__(self, of, ahead):
        self.of, self.ahead, self.at = of, ahead, 0
        self.start, self.block = 0, b''

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        self.at = offset + (0, self.at, self.of.size)[whence]
        return self.at

    def tell(self):
        return self.at

    def readinto(self, buffer):
        stop = min(self.at + len(buffer), self.of.size)
        if stop <= self.at:
            return 0
        if not self.start <= self.at < stop <= self.start + len(self.block):
            self.start = self.at
            end = min(max(stop, self.at + self.ahead), self.of.size)
            self.block = _part(self.of, self.at, end)
        length = stop - self.at
        first = self.at - self.start
        buffer[:length] = self.block[first:first + length]
        self.at = stop
        return length


def why_away(file):
    """Why the store of an object does not serve now; None if it does.

    One that refuses access has done otherwise before, so it may again.
    """
    try:
        object_stores.get(file, 0, 1)
    except StoreError as error:
        if error.passes or error.errno == errno.EACCES:
            return f'{file}: {error.strerror}'


def take_retried():
    """Why this process asked a store again, since the last call.

    Returns:
        dict: reason -> how often.
    """
    taken = dict(_retried)
    _retried.clear()
    return taken


def errors_refused(path):
    """Refuse a shard, in place of an OSError of a system or a store."""
    return os_errors_refused(
        f'cannot read the shard {path}',
        'grant the right to read it, or name others with --data-root')


def _stamp(path):
    with errors_refused(path):
        if is_address(path):
            return _patiently(path, lambda: object_stores.get(path, 0, 1))[1]
        status = os.stat(path)
    # unlike the time of modification, nobody can set that of change
    return [status.st_size, status.st_ctime_ns]


def _part(file, start, stop):
    """Bytes of an `Object`, all of them."""

    def ask():
        data, stamp = object_stores.get(file, start, stop)
        if stamp != file.stamp:
            raise BrokenImage(f'{file} has changed since it was listed')
        if len(data) != stop - start:
            raise StoreError(errno.EIO, 'the answer was cut off', True)
        return data

    return _patiently(file, ask)


def _patiently(address, ask):
    """Ask a store again, at growing intervals, while its errors may pass."""
    begun, chance = time.monotonic(), random.Random()
    for tries in count():
        try:
            return ask()
        except StoreError as error:
            # at times that differ, or all processes ask at once
            pause = chance.uniform(.5, 1) * min(FIRST_PAUSE * 2**tries,
                                                LONGEST_PAUSE)
            now = time.monotonic()
            if not error.passes or now - begun + pause > PATIENCE:
                raise
            _retried[error.strerror] += 1
            if now - _logged[0] > LOG_EVERY:
                _logged[0] = now
                log.info(f'{address}: {error.strerror}; it is asked again')
            time.sleep(pause)
