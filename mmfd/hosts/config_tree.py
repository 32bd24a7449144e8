"""Walk through a config of mmengine: dicts and lists within each other.

Its own `items()` imports what a pure-Python config names; that of dict does
not.
"""


def settings(node, path=''):
    """(dotted path, value) of all that a part of a config holds.

    The outer ones come first. What a config imports lazily is not imported.

    Args:
        node (dict | list | tuple): the part; of anything else nothing is in.
        path (str): of the part itself.
    """
    if isinstance(node, dict):
        items = [*dict.items(node)]
    else:
        items = enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        inner = f'{path}.{key}' if path else str(key)
        yield inner, value
        yield from settings(value, inner)


def dicts(node, path=''):
    """(dotted path, dict) of every dict in a part of a config, and of itself.

    Args as of `settings`.
    """
    for inner, value in [(path, node), *settings(node, path)]:
        if isinstance(value, dict):
            yield inner, value


def outer_paths(path):
    """Those of what a setting is in, the outermost first."""
    words = path.split('.')
    return ['.'.join(words[:count]) for count in range(1, len(words))]
