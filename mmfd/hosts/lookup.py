"""Look up what the next version of a host library may not have."""
import pkgutil
from functools import cache


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
