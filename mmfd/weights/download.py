"""Files from an address: fetched once, whole, their sums compared."""
import hashlib
import os
import shutil
import sys
import time
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from mmfd import files
from mmfd.errors import Refused
from mmfd.weights import checkpoints

BLOCK = 1 << 20  # bytes
OTHERWISE = 'or get the file in another way and give its path'


def fetch(url, expected=()):
    """The local copy of what an address offers; downloaded if there is none.

    It is kept in `$XDG_CACHE_HOME/mmfd/weights` (else
    `~/.cache/mmfd/weights`) with its sum, which is compared each time. A
    download that fails leaves nothing, and begins anew the next time. Of a
    list of shards the shards are fetched too.

    Args:
        url (str): http or https.
        expected (list): sha256 sums that the file must have, or their first
            digits. Not asked of a list of shards.

    Returns:
        Path: for `checkpoints.load`.

    Raises:
        Refused: if the file is not what was expected, or cannot be had or
            kept.
    """
    path = _place(url)
    shards = path.name.endswith(checkpoints.SHARDS)
    if shards:
        expected = ()
    if not _is_kept(path, expected):
        try:
            _download(url, path, expected)
        except OSError as error:
            raise Refused(
                f'{path} cannot be written: {error.strerror or error}; set '
                'XDG_CACHE_HOME to a folder with room, or free some') from None
    if shards:
        for name in checkpoints.shards_of(path):
            fetch(_beside(url, name))
    return path


def _place(url):
    """Where a file is kept: in one folder with all that lie beside it."""
    parts = urlsplit(url)
    name = unquote(parts.path.rpartition('/')[2])
    plain = name.isprintable() and name not in ('', '.', '..')
    if parts.scheme not in ('http', 'https') or not plain or '/' in name:
        raise Refused(f'{_shown(url)} is no address of a file: expected '
                      'https://.../NAME, or a path')
    folder = hashlib.sha256(_beside(url, '').encode()).hexdigest()[:16]
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(cache, 'mmfd', 'weights', folder, name)


def _beside(url, name):
    parts = urlsplit(url)
    folder = parts.path.rpartition('/')[0]
    return parts._replace(path=f'{folder}/{quote(name)}').geturl()


def _sum_of(path):
    return path.with_name(f'{path.name}.sha256')


def _is_kept(path, expected):
    if not path.is_file() or not _sum_of(path).is_file():
        return False
    found = files.sha256(path)
    return (_sum_of(path).read_text().strip() == found
            and all(found.startswith(digits.lower()) for digits in expected))


def _download(url, path, expected):
    answer = _answer(url)
    size = next(answer)
    folder = next(f for f in path.parents if f.exists())
    free = shutil.disk_usage(folder).free
    if size and size > free:
        raise Refused(
            f'{_shown(url)} has {size:,} bytes, {folder} room for {free:,}: '
            'set XDG_CACHE_HOME to a folder with room')
    done = 0
    with files.written_whole(path) as beside:
        with open(beside, 'wb') as file:
            for block in _reported(answer, path.name, size):
                if not done and checkpoints.is_web_page(block):
                    raise Refused(
                        f'{_shown(url)} answers with a web page, not with '
                        'weights: check the address and whether it asks for a '
                        f'login, {OTHERWISE}')
                file.write(block)
                done += len(block)
        if size is not None and done != size:
            raise Refused(f'{_shown(url)} broke off: {done:,} of {size:,} '
                          f'bytes arrived; try again, {OTHERWISE}')
        found = files.sha256(beside)
        files.check_sha256(found, expected, url)
    with files.written_whole(_sum_of(path)) as beside:
        beside.write_text(found)


def _answer(url):
    """What comes from an address: its size or None, then blocks of bytes."""
    try:
        request = Request(url, headers={'User-Agent': 'mmfd'})
        with urlopen(request, timeout=60) as response:
            safe = [x.startswith('https:') for x in (url, response.url)]
            if safe == [True, False]:
                raise OSError('it leads to an address without https')
            size = response.headers['Content-Length']
            yield size and int(size)
            while block := response.read(BLOCK):
                yield block
    except HTTPError as error:
        answer = ' '.join(f'{error.code} {error.reason}'.split())
        raise Refused(f'{_shown(url)} is answered with {answer}: check the '
                      f'address, {OTHERWISE}') from None
    except Refused:
        raise
    except (OSError, HTTPException, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise Refused(f'{_shown(url)} cannot be downloaded: {reason}; check '
                      f'network and proxy, {OTHERWISE}') from None


def _reported(blocks, name, size):
    """The same blocks; tells on the way how many there were."""
    screen = sys.stderr.isatty()
    start, told, done = time.monotonic(), 0., 0
    for block in blocks:
        yield block
        done += len(block)
        spent = time.monotonic() - start
        last = size and done >= size
        if last or spent - told > (0.2 if screen else 10):
            told = spent
            print(
                _progress(name, done, size, spent),
                end='\r' if screen and not last else '\n',
                file=sys.stderr,
                flush=True)


def _progress(name, done, size, spent):
    """`ViT-B-16.pt: 120 of 351 MB, 30.1 MB/s, eta 0:00:08`"""
    speed = done / max(spent, 1e-3)
    of = f' of {size / 1e6:,.0f}' if size else ''
    left = size and timedelta(seconds=round((size - done) / speed))
    eta = f', eta {left}' if size else ''
    return f'{name}: {done / 1e6:,.0f}{of} MB, {speed / 1e6:,.1f} MB/s{eta}'


def _shown(url):
    """Without its query, which may hold a secret."""
    return url.partition('?')[0]
