"""Which line of OpenMMLab is installed."""
import shlex
from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet

from mmfd.errors import Refused

# Two lines of packages with the same import names, and their versions that are
# tested: the maintained one, which setup.cfg asks for, and the older one,
# which stands still. The first three of each are needed, or one in their role.
MAINTAINED = {
    'onedl-mmengine': '>=0.10.12,<0.11',
    'onedl-mmcv': '>=2.3.6,<2.4',
    'onedl-mmpretrain': '>=1.3.6,<1.4',
    'onedl-mmsegmentation': '>=1.4.2,<1.5',
    'onedl-mmdetection': '>=3.5.1,<3.6',
}
OLDER = {
    'mmengine': '>=0.10.7,<0.11',
    'mmcv-lite': '>=2.1,<2.2',
    'mmpretrain': '>=1.2,<1.3',
    'mmengine-lite': '>=0.10.7,<0.11',
    'mmcv': '>=2.1,<2.2',
    'mmsegmentation': '>=1.2.2,<1.3',
    'mmdet': '>=3.3,<3.4',
}
# What the older line takes names from that later versions have moved
BESIDE_OLDER = {'transformers': '<4.52', 'setuptools': '<81'}


def check():
    """Refuse both lines at once, half of one, and versions never tested.

    Raises:
        Refused: with what is installed, and the command that mends it.
    """
    newer, older = _installed(MAINTAINED), _installed(OLDER)
    if newer and older:
        raise Refused(
            f'{_list(newer | older)} are of two lines of OpenMMLab with the '
            'same import names, which overwrite each other: keep one, by '
            f'{_keep(MAINTAINED, newer, older)}, or by '
            f'{_keep(OLDER, older, newer)}')
    line, found = MAINTAINED, newer
    if older:
        line, found = OLDER | BESIDE_OLDER, older | _installed(BESIDE_OLDER)
    wrong = _missing(line, found) + [
        name for name, number in found.items()
        if not SpecifierSet(line[name]).contains(number, prereleases=True)
    ]
    if wrong:
        raise Refused(
            f'of OpenMMLab there is {_list(found) or "nothing"}, and mmfd is '
            f'tested with other versions: pip install {_join(line, wrong)}')


def _installed(names):
    """Those of the distributions that are installed, and their versions."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _missing(line, found):
    roles = {_role(name) for name in found}
    return [name for name in [*line][:3] if _role(name) not in roles]


def _role(name):
    """What a distribution is in either line, with or without all its parts."""
    return name.removeprefix('onedl-').removesuffix('-lite')


def _list(found):
    return ', '.join(f'{name} {number}' for name, number in found.items())


def _keep(line, found, other):
    """The command that leaves one line, and all its files."""
    names = [*_missing(line, found), *found]
    return (f'pip uninstall -y {" ".join(other)}; pip install '
            f'--force-reinstall --no-deps {_join(line, names)}')


def _join(line, names):
    return shlex.join(name + line[name] for name in names)
