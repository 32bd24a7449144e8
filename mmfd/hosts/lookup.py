"""Look up what the next version of a host library may not have."""
import pkgutil
import re
from functools import cache

from mmfd.hosts import versions


@cache
def find(name):
    """The object of a name, or None where the library has none of that name.

    Asked for once: later calls cost a look into a dict.

    Args:
        name (str): module and path within it, `torch:Tensor._version`.
    """
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return None


def needed(name):
    """As `find`, of what mmfd cannot do without.

    Raises:
        Refused: if there is none of that name, with the library's version.
    """
    there = find(name)
    if there is None:
        raise versions.lacks(re.split('[.:]', name)[0], name)
    return there


def check_methods(cls, *names):
    """Refuse a library without the private methods that mmfd overrides.

    It would never call what mmfd has in their place, and not say so.

    Args:
        cls (type): of the library.
        names (str): of its methods.

    Raises:
        Refused: with the library's version and the name.
    """
    for name in names:
        if not hasattr(cls, name):
            raise versions.lacks(
                cls.__module__.partition('.')[0], f'{cls.__name__}.{name}')
