"""Files written whole or not at all, and their sums."""
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from mmfd.errors import Refused
from mmfd.hosts import system


@contextmanager
def or_refuse(what, advice):
    """Raise Refused in the place of an OSError.

    Args:
        what (str): what could not be done, with the path.
        advice (str): what to turn.
    """
    try:
        yield
    except OSError as error:
        raise Refused(
            f'{what}: {error.strerror or error}; {advice}') from error


def make_folder(path):
    """Make a folder and those above it, if they are not there.

    Raises:
        Refused: if that cannot be done.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise Refused(
            f'cannot make the folder {error.filename}: '
            f'{error.strerror}; name another place to write to') from error


def cache_folder(name):
    """Where files of one kind are kept between runs; it need not exist.

    `$XDG_CACHE_HOME/mmfd/NAME`, else `~/.cache/mmfd/NAME`.
    """
    root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(root, 'mmfd', name)


@contextmanager
def written_whole(path, durable=True):
    """Give a temporary path to write to, which becomes `path` at the end.

    So `path` is complete or absent, whoever else writes it at the same time.

    Args:
        path (str): file to write.
        durable (bool): the file outlasts a power failure as soon as it has
            its name, which takes some milliseconds.

    Raises:
        OSError: if it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # unlike a process id, different on all machines that share a folder
    temporary = path.with_name(f'{path.name}.{uuid4().hex[:8]}.part')
    try:
        yield temporary
        if durable:
            system.sync(temporary)
        temporary.replace(path)
        if durable:
            system.sync(path.parent)  # the name, too
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def output_file(path):
    """`written_whole`, of a file that a user asked for.

    Raises:
        Refused: if it cannot be written.
    """
    make_folder(Path(path).parent)
    with or_refuse(f'{path} cannot be written', 'name another place'):
        with written_whole(path) as beside:
            yield beside


def sha256(path):
    """The sum of a file, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(found, expected, what):
    """Refuse a sum that does not begin with every one that is expected."""
    for published in expected:
        if not found.startswith(published.lower()):
            raise Refused(
                f'{what} has sha256 {found}, expected was {published}: it is '
                'another file, or was damaged on its way; get it again, or '
                'compare the sum with that of its authors')
