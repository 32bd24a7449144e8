"""How a network is named: LIBRARY:NAME, or LIBRARY:NAME=FILE.

This file imports nothing heavy.
"""
from mmfd.errors import Refused
from mmfd.weights import weight_files

LIBRARIES = 'timm', 'hf', 'torchvision', 'mm', 'mmfd'


def split(text):
    """The parts of a network's name.

    Returns:
        tuple[str, str, str]: library, name, and path of its weights or ''.

    Raises:
        Refused: for an unknown library, or a FILE that is not there.
    """
    library, colon, rest = text.partition(':')
    if not colon or library not in LIBRARIES:
        raise Refused(
            f'{text!r} names no network: write LIBRARY:NAME, and =FILE after '
            f'it for its weights, where LIBRARY is {", ".join(LIBRARIES)}')
    name, _, file = rest.partition('=')
    if file:
        weight_files.resolve(file)
    return library, name, file
