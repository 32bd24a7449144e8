"""The versions of PyTorch and OpenMMLab that mmfd is tested with."""
import logging
import shlex
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet

from mmfd.errors import Refused

# OpenMMLab comes in two lines of distributions with the same import names: the
# maintained one, which setup.cfg asks for, and the original one, which gets no
# releases any more. With each its tested versions. Of each line the first
# three are needed, or another distribution in their role.
MAINTAINED = {
    'onedl-mmengine': '>=0.10.12,<0.11',
    'onedl-mmcv': '>=2.3.6,<2.4',
    'onedl-mmpretrain': '>=1.3.6,<1.4',
    'onedl-mmsegmentation': '>=1.4.2,<1.5',
    'onedl-mmdetection': '>=3.5.1,<3.6',
}
ORIGINAL = {
    'mmengine': '>=0.10.7,<0.11',
    'mmcv-lite': '>=2.1,<2.2',
    'mmpretrain': '>=1.2,<1.3',
    'mmengine-lite': '>=0.10.7,<0.11',
    'mmcv': '>=2.1,<2.2',
    'mmsegmentation': '>=1.2.2,<1.3',
    'mmdet': '>=3.3,<3.4',
}
# The original line imports names that later versions of these have moved
BESIDE_ORIGINAL = {'transformers': '<4.52', 'setuptools': '<81'}
# Tested versions. Others get a warning, as most work; older ones than LEAST
# are refused, as they lack functions that mmfd calls.
PYTORCH = {'torch': '>=2.14.1,<2.16', 'torchvision': '>=0.29.1,<0.30'}
LEAST = {'torch': '>=2.7'}
# Whose networks are taken by name; not needed otherwise
NETWORKS = {'timm': '>=1.0.31,<1.1'}


def check():
    """Check the versions of what mmfd builds on; warn of an untested PyTorch.

    Raises:
        Refused: for both lines of OpenMMLab at once, an incomplete one,
            versions of it that were never tested, or a PyTorch that is too
            old. The message has the command that mends it.
    """
    _check_openmmlab()
    _check_pytorch()


def _check_openmmlab():
    newer, older = _installed(MAINTAINED), _installed(ORIGINAL)
    if newer and older:
        raise Refused(
            f'{_list(newer | older)} are of two lines of OpenMMLab with the '
            'same import names, which overwrite each other: keep one, by '
            f'{_keep(MAINTAINED, newer, older)}, or by '
            f'{_keep(ORIGINAL, older, newer)}')
    line, installed = MAINTAINED, newer
    if older:
        line = ORIGINAL | BESIDE_ORIGINAL
        installed = older | _installed(BESIDE_ORIGINAL)
    wrong = _missing(line, installed) + _outside(line, installed)
    if wrong:
        raise Refused(
            f'of OpenMMLab there is {_list(installed) or "nothing"}, and mmfd '
            f'is tested with other versions: pip install {_join(line, wrong)}')


def _check_pytorch():
    installed = _installed(PYTORCH)
    old = _outside(LEAST, installed)
    if old:
        raise Refused(f'{_list(installed)} are too old for mmfd: pip install '
                      f'{_join(LEAST, old)}')
    untested = _outside(PYTORCH, installed)
    if untested:  # where nobody has set logging up: one line on stderr
        logging.getLogger(__name__).warning(
            '%s: mmfd is tested with %s', _list(installed),
            ', '.join(name + PYTORCH[name] for name in untested))


def lacks(library, what):
    """The exception for a library that has lost what mmfd cannot do without.

    Args:
        library (str): as it is imported, `mmengine`.
        what (str): its name in the library.

    Returns:
        Refused: names the installed version and the tested ones.
    """
    tested = PYTORCH | ORIGINAL | MAINTAINED | NETWORKS
    installed = {
        name: number
        for name, number in _installed(tested).items()
        if _role(name) == library
    }
    return Refused(f'{_list(installed) or library} has no {what}: pip install '
                   f'{_join(tested, installed or [library])}, with which mmfd '
                   'is tested')


def _installed(names):
    """Those of the distributions that are installed, and their versions."""
    installed = {}
    for name in names:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def _outside(ranges, installed):
    """Names of the installed distributions of other versions than `ranges`."""
    return [
        name for name, number in installed.items() if name in ranges
        and not SpecifierSet(ranges[name]).contains(number, prereleases=True)
    ]


def _missing(line, installed):
    roles = {_role(name) for name in installed}
    return [name for name in [*line][:3] if _role(name) not in roles]


def _role(name):
    """What a distribution is in either line, with or without all its parts."""
    return name.removeprefix('onedl-').removesuffix('-lite')


def _list(installed):
    return ', '.join(f'{name} {number}' for name, number in installed.items())


def _keep(line, installed, other):
    """The command that leaves one line, and all its files."""
    names = [*_missing(line, installed), *installed]
    return (f'pip uninstall -y {" ".join(other)}; pip install '
            f'--force-reinstall --no-deps {_join(line, names)}')


def _join(ranges, names):
    return shlex.join(name + ranges[name] for name in names)
