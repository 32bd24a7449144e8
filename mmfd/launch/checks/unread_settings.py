"""Refuse settings that nothing reads."""
import difflib
import re

from mmfd.errors import Refused
from mmfd.launch.checks.config_variables import words_of_libraries
from mmfd.launch.checks.constructor_arguments import (known_keys, source,
                                                      source_around, takes)
from mmfd.launch.checks.setting_takers import parts_of, scope_of, takers_of
from mmfd.launch.checks.type_names import find_classes

# Keys of a data set's metainfo that OpenMMLab 2 does not read any more
FORMER_METAINFO = dict(CLASSES='classes', PALETTE='palette')


def check(cfg):
    """Refuse settings in a config that nothing reads.

    Left alone are those that the host libraries' own files have.

    Args:
        cfg (Config): of a whole run.

    Raises:
        Refused: naming each of them.
    """
    stock = words_of_libraries(cfg.filename)
    unread = [
        f'{path}={value!r} ({why})' for path, value, why in unread_in(cfg)
        if path.rpartition('.')[2] not in stock
    ]
    if unread:
        more = f' and {len(unread) - 5} more' if len(unread) > 5 else ''
        raise Refused(f'nothing reads {", ".join(unread[:5])}{more}: take out '
                      'of the config what has no effect')


def unread_in(cfg):
    """(dotted path, value, why) of each setting that nothing reads."""
    scope = scope_of(cfg)
    for path, node, around in parts_of(cfg):
        if path.endswith('.metainfo'):
            for key in FORMER_METAINFO.keys() & node.keys():
                why = f'did you mean {FORMER_METAINFO[key]!r}?'
                yield f'{path}.{key}', node[key], why
        takers = takers_of(path, node, cfg)
        unread = _not_taken(node, takers, scope)
        if unread and isinstance(node.get('type'), str):
            # the same name may be another class in another registry
            takers = [*takers, *find_classes(node['type'], scope)]
            unread = _not_taken(node, takers, scope)
        for key in unread:
            if not _read_by_name(key, takers, around, cfg):
                why = _why(key, node, takers, scope)
                yield f'{path}.{key}', node[key], why


def _read_by_name(key, takers, around, cfg):
    """Whether a class here or around may take a key out of the dict itself.

    Such as a detection head what only it needs of the config of its loss.
    """
    texts = [source(taker) for taker in takers if not isinstance(taker, set)]
    for path, node in around:
        texts += [
            source_around(taker) for taker in takers_of(path, node, cfg)
            if not isinstance(taker, set)
        ]
    return any(_quotes(text, key) for text in texts)


def _not_taken(node, takers, scope):
    """Keys of a dict that none of its takers reads; [] if it has no taker."""
    return [
        key for key in (node if takers else ())
        if not any(takes(taker, key, node, scope) for taker in takers)
    ]


def _quotes(text, key):
    return re.search(rf"""['"]{re.escape(str(key))}['"]""", text)


def _why(key, node, takers, scope):
    """Which class has no such key, and which key is spelt nearly so."""
    name = node.get('type') or getattr(takers[0], '__name__', 'this section')
    if not isinstance(name, str):
        name = name.__name__
    taken = {
        other
        for other in known_keys(takers) if any(
            takes(taker, other, {}, scope) for taker in takers)
    }
    near = difflib.get_close_matches(key, taken, n=1)
    advice = f'; did you mean {near[0]!r}?' if near else ''
    return f'{name} has no {key!r}{advice}'
