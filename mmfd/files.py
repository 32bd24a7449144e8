"""Files that are written completely or not at all, and their sums."""
import errno
import hashlib
import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from mmfd.errors import Refused
from mmfd.hosts import system

# Permissions in a cache: others may read, as far as umask lets them
OWN_FILE, OWN_FOLDER = 0o644, 0o755
# In the folder of every run: which run it is, and the lock of who trains it
RUN, LOCK = 'run.json', 'run.lock'


def has_no_room(error):
    """Whether an OSError says that there is nowhere to write to."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG,
                           errno.EROFS)


@contextmanager
def os_errors_refused(what, advice):
    """Turn an OSError of the body into a message for the user.

    Args:
        what (str): what could not be done, with the path.
        advice (str): what the user can do about it.

    Raises:
        Refused: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise Refused(
            f'{what}: {error.strerror or error}; {advice}') from error


def make_folder(path):
    """Make a folder, and those above it, unless it exists.

    Raises:
        Refused: if it cannot be made, or nothing can be written to it; for a
            `~` that no shell has replaced, of which a folder would be made.
    """
    if (full := os.path.expanduser(path)) != os.fspath(path):
        raise Refused(f'nobody has replaced the ~ in {path}: write {full}')
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise Refused(
            f'cannot make the folder {error.filename}: '
            f'{error.strerror}; name another place to write to') from error
    with os_errors_refused(f'the folder {path} cannot be written to',
                           'name another place to write to'):
        tempfile.TemporaryFile(dir=path).close()


def missing_folders(path):
    """A folder and those above it that do not exist, the lowest first.

    Returns:
        list[Path]: as `remove_empty` takes them.
    """
    folders = Path(path), *Path(path).parents
    return [folder for folder in folders if not os.path.exists(folder)]


def remove_empty(folders):
    """Remove those of several folders, in turn, in which nothing is."""
    for folder in folders:
        if os.path.isdir(folder) and not any(folder.iterdir()):
            folder.rmdir()


def cache_folder(name):
    """The folder for files of one kind that later runs use; it may not exist.

    `$XDG_CACHE_HOME/mmfd/NAME`, else `~/.cache/mmfd/NAME`.
    """
    root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(root, 'mmfd', name)


def make_own_folder(path):
    """Make a folder for a cache, to which only this user can write.

    One of this user's that others can write to, as umask 002 makes them, is
    closed to them; what they have written before is not read (`read_own`).

    Raises:
        OSError: if it cannot be made, or is somebody else's.
    """
    path.mkdir(mode=OWN_FOLDER, parents=True, exist_ok=True)
    status = os.stat(path)
    if system.other_writers(status):
        with suppress(OSError):  # it is not ours
            os.chmod(path, stat.S_IMODE(status.st_mode) & OWN_FOLDER)
    for status in os.lstat(path), os.stat(path):  # a link, what it leads to
        if reason := system.other_writers(status):
            raise PermissionError(errno.EPERM, reason, str(path))


def is_own(path):
    """Whether this is a file to which only this user can write; no link."""
    try:
        return _is_own(os.lstat(path))
    except OSError:
        return False


def read_own(path, shared=False):
    """The content of a cache's file; None if there is none, as of `is_own`.

    Args:
        path (Path): file.
        shared (bool): take a file of anyone, too.
    """
    try:
        with open(system.open_plain(path), 'rb') as file:
            if _is_own(os.fstat(file.fileno()), shared):
                return file.read()
    except OSError:
        pass


def _is_own(status, shared=False):
    return stat.S_ISREG(
        status.st_mode) and (shared or not system.other_writers(status))


@contextmanager
def written_whole(path, durable=True, mode=0o666):
    """Yield a temporary path to write to, and rename it to `path` at the end.

    So `path` is either complete or absent, even if the body fails or several
    processes write it at the same time.

    Args:
        path (str): file to write.
        durable (bool): wait until the disk has the file, so that it survives a
            power failure. This takes some milliseconds.
        mode (int): permissions of the file, of which umask takes some away.

    Raises:
        OSError: if it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # unlike a process id, different on all machines that share a folder
    temporary = path.with_name(f'{path.name}.{uuid4().hex[:8]}.part')
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:  # from here on, so that a Ctrl-C just after it is made removes it
        # new, so that it is no link that somebody else has put there
        descriptor = os.open(temporary, flags, mode)
        permissions = os.fstat(descriptor).st_mode
        os.close(descriptor)
        yield temporary
        # safetensors puts a file of its own there, which others cannot read
        if os.stat(temporary).st_mode != permissions:
            os.chmod(temporary, stat.S_IMODE(permissions))
        if durable:
            system.sync(temporary)
        temporary.replace(path)
        if durable:
            system.sync(path.parent)  # the name, too
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def output_file(path):
    """Do as `written_whole`, for a file that a user named.

    Raises:
        Refused: if it cannot be written.
    """
    make_folder(Path(path).parent)
    with os_errors_refused(f'{path} cannot be written', 'name another place'):
        with written_whole(path) as temporary:
            yield temporary


def sha256(path):
    """The SHA-256 of a file, 64 hexadecimal digits as `sha256sum` prints."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(actual, published, what):
    """Compare the sum of a file with those that its authors published.

    Args:
        actual (str): the sum, as `sha256` returns it.
        published (Iterable[str]): sums that it must have, or the beginnings of
            them.
        what (str): path or address, for the message.

    Raises:
        Refused: if `actual` does not begin with each of them.
    """
    for expected in published:
        if not actual.startswith(expected.lower()):
            raise Refused(
                f'{what} has sha256 {actual}, expected was {expected}: it is '
                'another file, or was damaged on its way; get it again, or '
                'compare the sum with that of its authors')


def check_image_folder(path):
    """Refuse a path that is no folder.

    Raises:
        Refused: which names the options that name such folders.
    """
    if not os.path.isdir(path):
        raise Refused(f'no image folder {path}: name another with --data-root '
                      '(--images of mmfd analyze, --data of mmfd distill)')
