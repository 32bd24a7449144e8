"""Weights from an address: downloaded once, whole, their sums compared.

The request is made here and not by a library: torch.hub takes a download that
broke off for a whole one, pooch a login page for weights, and both follow an
https address to one without.
"""
import hashlib
import shutil
import sys
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from mmfd import files
from mmfd.errors import Refused
from mmfd.weights import file_kinds, weight_files

BLOCK = 1 << 20  # bytes
OTHERWISE = 'or get the file in another way and give its path'


def fetch(url, expected=()):
    """Give the local copy of the file at an address, downloaded if need be.

    The copy lies in `files.cache_folder('weights')`, its sum beside it, and is
    compared with that each time. A download that fails leaves nothing, and
    begins anew the next time. After an index of shards come its shards.

    Args:
        url (str): http or https.
        expected (list): sha256 sums that the file must have, or their first
            digits. Not compared with an index of shards.

    Returns:
        Path: for `checkpoints.load`.

    Raises:
        Refused: if there is no such file, if it is not what was expected, or
            if it cannot be stored.
    """
    path = _place(url)
    is_index = path.name.endswith(weight_files.INDEX)
    if is_index:
        expected = ()
    with files.os_errors_refused(
            f'{path} cannot be written',
            'set XDG_CACHE_HOME to a folder of your own with room. What a '
            'group shares is converted once and given by its path'):
        files.make_own_folder(path.parent)
        if not _is_stored(path, expected):
            _download(url, path, expected)
    if is_index:
        for name in weight_files.shard_names(path):
            fetch(_beside(url, name))
    return path


def _place(url):
    """Where a file is stored: with all that lie beside it at its address."""
    parts = urlsplit(url)
    name = unquote(parts.path.rpartition('/')[2])
    plain = name.isprintable() and name not in ('', '.', '..')
    if parts.scheme not in ('http', 'https') or not plain or '/' in name:
        raise Refused(f'{_shown(url)} is no address of a file: expected '
                      'https://.../NAME, or a path')
    folder = hashlib.sha256(_beside(url, '').encode()).hexdigest()[:16]
    return files.cache_folder('weights') / folder / name


def _beside(url, name):
    """The address of another file of the same folder."""
    parts = urlsplit(url)
    folder = parts.path.rpartition('/')[0]
    return parts._replace(path=f'{folder}/{quote(name)}').geturl()


def _sum_file(path):
    return path.with_name(f'{path.name}.sha256')


def _is_stored(path, expected):
    noted = files.read_own(_sum_file(path))
    if noted is None or not files.is_own(path):
        return False
    digits = files.sha256(path)
    return (noted.strip() == digits.encode()
            and all(digits.startswith(first.lower()) for first in expected))


def _download(url, path, expected):
    blocks = _request(url)
    size = next(blocks)
    folder = next(f for f in path.parents if f.exists())
    free = shutil.disk_usage(folder).free
    if size and size > free:
        raise Refused(
            f'{_shown(url)} has {size:,} bytes, {folder} room for {free:,}: '
            'set XDG_CACHE_HOME to a folder with room')
    done = 0
    with files.written_whole(path, mode=files.OWN_FILE) as part:
        with open(part, 'wb') as file, _progress(path.name, size) as progress:
            for block in blocks:
                if not done and file_kinds.is_web_page(block):
                    raise Refused(
                        f'{_shown(url)} answers with a web page, not with '
                        'weights: check the address and whether it asks for a '
                        f'login, {OTHERWISE}')
                file.write(block)
                done += len(block)
                progress.update(len(block))
        if size is not None and done != size:
            raise Refused(f'{_shown(url)} broke off: {done:,} of {size:,} '
                          f'bytes arrived; try again, {OTHERWISE}')
        digits = files.sha256(part)
        files.check_sha256(digits, expected, _shown(url))
    with files.written_whole(_sum_file(path), mode=files.OWN_FILE) as part:
        part.write_text(digits)


def _request(url):
    """Yield the size of a file in bytes, or None, then its blocks."""
    try:
        request = Request(url, headers={'User-Agent': 'mmfd'})
        with urlopen(request, timeout=60) as response:
            if url.startswith(
                    'https:') and not response.url.startswith('https:'):
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


def _progress(name, size):
    """A bar on a screen; elsewhere, as in a log, a line every ten seconds."""
    return tqdm(
        desc=name,
        total=size,
        unit='B',
        unit_scale=True,
        mininterval=0.1 if sys.stderr.isatty() else 10)


def _shown(url):
    """Without its query, which may hold a secret."""
    return url.partition('?')[0]
