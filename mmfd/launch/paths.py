"""The paths of a command line, looked at before anything large is imported."""
import difflib
from pathlib import Path

import mmfd
from mmfd.data import roots
from mmfd.errors import Refused
from mmfd.networks import names
from mmfd.weights import weight_files

SHIPPED = Path(mmfd.__file__).parent / '.mim'  # with configs/ in it


def check(configs=(), checkpoints=(), folders=(), networks=(), existing=()):
    """Refuse what is not there.

    Args:
        configs (Sequence[str]): config files, or paths of those of mmfd.
        checkpoints (Sequence[str]): weights files, or folders with one.
        folders (Sequence[str]): of images, or shards of them.
        networks (Sequence[str]): by name, LIBRARY:NAME or LIBRARY:NAME=FILE.
        existing (Sequence[str]): files or folders of any kind.

    Raises:
        Refused: with the first that is missing.
    """
    for path in configs:
        find_config(path)
    for path in checkpoints:
        weight_files.resolve(path)
    named = [names.split(text) for text in networks]
    for path in folders:
        roots.check_root(path)
    for path in existing:
        if not Path(path).exists():
            raise Refused(f'there is no file and no folder {path}')
    for library, name, _ in named:  # last, as it imports their libraries
        names.check_known(library, name)


def find_config(path):
    """A config file, or the one of this path that comes with mmfd.

    Raises:
        Refused: if there is neither, with the nearest name that there is.
    """
    for file in Path(path), SHIPPED / path:
        if file.is_file():
            return str(file)
    ours = {file.stem: file for file in SHIPPED.glob('configs/*/*.py')}
    near = difflib.get_close_matches(Path(path).stem, ours, n=1)
    hint = (f'; did you mean {ours[near[0]].relative_to(SHIPPED)}?'
            if near else '')
    what = f'no config file, {path} is a folder' if Path(
        path).is_dir() else f'no config file {path}'
    raise Refused(what + hint)
