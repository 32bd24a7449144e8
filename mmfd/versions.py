"""Which line of OpenMMLab is installed, and whether it is one line."""
from importlib.metadata import PackageNotFoundError, version

# import name -> distributions that bring it: the maintained line's, the old
# line's; two of them overwrite each other's files
DISTRIBUTIONS = dict(
    mmengine=(['onedl-mmengine'], ['mmengine', 'mmengine-lite']),
    mmcv=(['onedl-mmcv'], ['mmcv', 'mmcv-lite']),
    mmpretrain=(['onedl-mmpretrain'], ['mmpretrain']))
CURE = ('pip uninstall -y {names}; then pip install onedl-mmengine onedl-mmcv '
        'onedl-mmpretrain')


def check():
    """Refuse a mix of the two lines.

    Raises:
        ValueError: if one import name comes from two distributions, or two
            names from different lines.
    """
    lines = [[], []]
    for distributions in DISTRIBUTIONS.values():
        for line, names in zip(lines, distributions):
            line += [f'{name} {found}' for name in names
                     if (found := _version(name))]
    if all(lines):
        there = [name for line in lines for name in line]
        raise ValueError(
            f'{", ".join(there)} are installed together, but onedl-* and '
            "OpenMMLab's older packages share import names and overwrite "
            'each other: ' +
            CURE.format(names=' '.join(name.split()[0] for name in there)))


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
