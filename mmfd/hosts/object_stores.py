"""Object stores, as fsspec and the libraries behind it reach them.

Each answer comes with the stamp of the object that it is a part of, so nobody
takes parts of two states of an object for one. Words of a store are passed on
to nobody, since they may hold an address with its signature.
"""
import asyncio
import errno
from ssl import SSLCertVerificationError

from mmfd.errors import Refused, causes

PACKAGES = dict(
    s3='s3fs', gs='gcsfs', http='aiohttp', https='aiohttp', memory='fsspec')
CONNECT, SILENT = 10, 30  # seconds to wait for a server, and for its next byte
MAY_PASS = 408, 409, 425, 429  # of the answers 400-499
LIBRARIES = ('aiohttp', 'aiobotocore', 'botocore', 's3fs', 'gcsfs', 'google',
             'requests', 'urllib3', 'fsspec')  # whose errors are of a store
REFUSING = ('NoCredentialsError', 'PartialCredentialsError', 'RefreshError',
            'DefaultCredentialsError', 'ProfileNotFound')
# What tells two states of an object apart, in the words of several stores
MARKS = ('ETag', 'etag', 'generation', 'md5Hash', 'LastModified',
         'Last-Modified', 'mtime', 'created')


class StoreError(OSError):
    """A store did not give what it was asked for.

    Attributes:
        passes (bool): it may do so later.
    """

    def __init__(self, number, reason, passes=False):
        super().__init__(number, reason)
        self.passes = passes

    def __reduce__(self):
        return StoreError, (self.errno, self.strerror, self.passes)


def get(address, start, stop):
    """Some bytes of an object.

    Args:
        start, stop (int): the first, and that behind the last.

    Returns:
        tuple: bytes, fewer where the object ends before; stamp of the object,
        a list of its size in bytes and a text.

    Raises:
        StoreError: if the store does not give them.
        Refused: if a library is missing.
    """
    kind = protocol(address)
    fs, path = _connect(address)
    ask = dict(http=_get_http, https=_get_http, s3=_get_s3).get(kind, _get)
    return _asked(ask, fs, path, start, stop)


def find(folder):
    """The paths of the objects below an address, relative to it, sorted.

    Raises:
        StoreError, Refused: as of `get`.
    """
    fs, path = _connect(folder)
    found = _asked(fs.find, path)
    return sorted(
        name.removeprefix(path).lstrip('/') for name in found
        if name.startswith(path.rstrip('/') + '/'))


def protocol(address):
    return address.partition('://')[0].lower()


def _connect(address):
    """The file system of fsspec for an address, and its path there.

    It is asked for each time, since fsspec keeps them: a process that was
    forked needs others than that before it.
    """
    kind = protocol(address)
    try:
        import fsspec
        from fsspec.config import conf
        of_user = conf.get(kind, {})
        settings = {
            name: {
                **ours,
                **of_user.get(name, {})
            }
            for name, ours in _settings(kind).items()
        }
        fs = fsspec.filesystem(kind, use_listings_cache=False, **settings)
    except ImportError:
        needed = ' '.join(sorted({'fsspec', PACKAGES[kind]}))
        raise Refused(f'{kind}:// addresses are read by other libraries: '
                      f'pip install {needed}') from None
    if kind == 's3':
        fs.retries = 1
    return fs, fs._strip_protocol(address)


def _settings(kind):
    """Settings of a file system of fsspec, each a dict."""
    if kind in ('http', 'https'):  # proxies, and passwords of ~/.netrc
        return dict(client_kwargs=dict(trust_env=True))
    if kind == 's3':  # who asks counts how often it asks
        return dict(
            config_kwargs=dict(
                retries=dict(max_attempts=0),
                connect_timeout=CONNECT,
                read_timeout=SILENT))
    return {}


def _get_http(fs, url, start, stop):
    from fsspec.asyn import sync
    return sync(fs.loop, _http_part, fs, url, start, stop)


async def _http_part(fs, url, start, stop):
    import aiohttp
    headers = {
        'Range': f'bytes={start}-{stop - 1}',
        'Accept-Encoding': 'identity'
    }
    timeout = aiohttp.ClientTimeout(
        None, sock_connect=CONNECT, sock_read=SILENT)
    session = await fs.set_session()
    async with session.get(
            fs.encode_url(url), headers=headers, timeout=timeout) as reply:
        if reply.status == 416 and start == 0:
            return b'', [0, '']
        if reply.status not in (200, 206):
            raise _answered(reply.status)
        size = _size(reply.headers.get('Content-Range', ''), start)
        return await reply.read(), [size, _mark(reply.headers)]


def _get_s3(fs, path, start, stop):
    from fsspec.asyn import sync
    bucket, key, _ = fs.split_path(path)
    try:
        reply = fs.call_s3(
            'get_object',
            Bucket=bucket,
            Key=key,
            Range=f'bytes={start}-{stop - 1}')
    except OSError as error:
        if start == 0 and _status(error) == 416:
            return b'', [0, '']
        raise
    size = _size(reply.get('ContentRange', ''), start)
    return sync(fs.loop, reply['Body'].read), [size, _mark(reply)]


def _get(fs, path, start, stop):
    data = fs.cat_file(path, start=start, end=stop)
    info = fs.info(path)  # behind it, so that it is of these bytes
    return data, [info['size'], _mark(info)]


def _size(content_range, start):
    """The bytes of an object, of `bytes START-LAST/SIZE`."""
    size = content_range.rpartition('/')[2]
    if not (content_range.startswith(f'bytes {start}-') and size.isdecimal()):
        raise StoreError(
            errno.EOPNOTSUPP,
            'the server gives whole files alone, not their parts')
    return int(size)


def _mark(info):
    return next((str(info[name]) for name in MARKS if info.get(name)), '')


def _asked(ask, *args):
    """What a store answers; errors of all libraries as StoreError."""
    try:
        return ask(*args)
    except StoreError:
        raise
    except Exception as error:
        library = type(error).__module__.partition('.')[0]
        if not (isinstance(error, (OSError, asyncio.TimeoutError))
                or library in LIBRARIES):
            raise
        raise _translated(error) from None


def _translated(error):
    status, name = _status(error), type(error).__name__
    if status is not None:
        return _answered(status)
    if isinstance(error, FileNotFoundError):
        return _answered(404)
    if isinstance(error, PermissionError) or name in REFUSING:
        return _answered(403)
    if isinstance(error, asyncio.TimeoutError) or 'Timeout' in name:
        return StoreError(errno.ETIMEDOUT, 'no answer in time', True)
    if name == 'ParamValidationError':
        return StoreError(errno.EINVAL, 'there can be no such address')
    if any(isinstance(e, SSLCertVerificationError) for e in causes(error)):
        return StoreError(
            errno.EPROTO, 'the certificate of the server is not trusted; '
            'SSL_CERT_FILE, for s3 AWS_CA_BUNDLE, names a file with those '
            'that are')
    return StoreError(errno.EIO, f'the connection failed ({name})', True)


def _status(error):
    """The HTTP status that an error is about; None if it tells none."""
    for one in error, error.__cause__:
        reply = getattr(one, 'response', None)  # of botocore
        if isinstance(reply, dict):
            return reply.get('ResponseMetadata', {}).get('HTTPStatusCode')
        if type(one).__module__.startswith('gcsfs'):
            status = getattr(one, 'code', None)
            return status if isinstance(status, int) else None
    return None


def _answered(status):
    """A StoreError for a HTTP status that is none of success."""
    if status in (404, 410):
        return StoreError(errno.ENOENT, f'there is no such object ({status})')
    if status in (401, 403, 407):
        return StoreError(
            errno.EACCES, f'the store refuses access ({status}) with '
            'the credentials in the environment')
    return StoreError(errno.EIO, f'the store answers {status}', status >= 500
                      or status in MAY_PASS)
