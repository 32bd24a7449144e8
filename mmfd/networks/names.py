"""How a network is named: LIBRARY:NAME, or LIBRARY:NAME=FILE.

This file imports nothing heavy, but to look for a name the library that it is
of.
"""
import difflib
from pathlib import Path

import mmfd
from mmfd.errors import Refused
from mmfd.hosts import timm_models
from mmfd.weights import weight_files

LIBRARIES = 'timm', 'hf', 'torchvision', 'mm', 'mmfd'


def split(text):
    """The parts of a network's name.

    Returns:
        tuple[str, str, str]: library, name, and path of its weights or ''.

    Raises:
        Refused: for what is no text, an unknown library, or a FILE that is
            not there.
    """
    library, colon, rest = str(text).partition(':')
    if not isinstance(text, str) or not colon or library not in LIBRARIES:
        raise Refused(
            f'{text!r} names no network: write LIBRARY:NAME, and =FILE after '
            f'it for its weights, where LIBRARY is {", ".join(LIBRARIES)}')
    name, _, file = rest.partition('=')
    if file:
        weight_files.resolve(file)
    return library, name, file


def check_known(library, name):
    """Look for a name where that takes no more than to import its library.

    Raises:
        Refused: with the nearest names, if it is not there.
    """
    if library in KNOWN:
        KNOWN[library](name)


def check_timm(name):
    """As `check_known`, of a name with or without a tag."""
    timm, stem = timm_models.library(), name.partition('.')[0]
    if not timm.is_model(stem):
        raise _no_network(f'timm {timm.__version__}', stem, timm.list_models())


def check_torchvision(name):
    """As `check_known`."""
    from torchvision import models
    known = models.list_models(module=models)
    if name not in known:
        raise _no_network('torchvision', name, known)


def check_mmfd(name):
    """As `check_known`; the config of a student."""
    files = students()
    if name not in files:
        raise Refused(f'mmfd has no student {name!r}, but {", ".join(files)}')


def students():
    """Name -> path of its config, of the students of `mmfd:NAME`."""
    folder = Path(mmfd.__file__).parent / '.mim/configs/_base_/students'
    return {path.stem: path for path in sorted(folder.glob('*.py'))}


def _no_network(who, name, known):
    near = difflib.get_close_matches(name, known, 3, 0)
    return Refused(f'{who} has no network {name!r}; the nearest names are '
                   f'{", ".join(near)}')


KNOWN = dict(timm=check_timm, torchvision=check_torchvision, mmfd=check_mmfd)
