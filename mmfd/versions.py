"""Which line of OpenMMLab is installed."""
from importlib.metadata import PackageNotFoundError, version

# The line that stands still. Its import names are the maintained line's, so
# whichever of two packages came last has overwritten the other's files.
OLD_LINE = ('mmengine', 'mmengine-lite', 'mmcv', 'mmcv-lite', 'mmpretrain')


def check():
    """Refuse the older line of packages, alone or beside the newer.

    Raises:
        ValueError: if one of `OLD_LINE` is installed.
    """
    found = {name: _version(name) for name in OLD_LINE}
    found = {name: number for name, number in found.items() if number}
    if found:
        there = ', '.join(f'{name} {number}' for name, number in found.items())
        raise ValueError(
            f'{there} is installed, of the OpenMMLab packages that stand '
            'still; mmfd needs onedl-*, which has the same import names: pip '
            f'uninstall -y {" ".join(found)}; pip install --force-reinstall '
            '--no-deps onedl-mmengine onedl-mmcv onedl-mmpretrain')


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
