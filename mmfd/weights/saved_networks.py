"""The networks in a file: below which keys, and behind which prefix.

A file holds a state dict, or a dict or list of a training loop with one or
several of them. Their names may have the prefixes of wrappers (`module.`,
`_orig_mod.`) or of the model around a network (`backbone.`). No list says
which keys and prefixes there are: what holds tensors and fits is a network.
"""
import re
from typing import NamedTuple

import torch

from mmfd.errors import Refused
from mmfd.weights import checkpoints
from mmfd.weights.weight_files import first_few

CONTAINERS = dict, list, tuple
SHORT = 9  # what has so little in it may be looked into again
DEEPEST = 3  # keys around a state dict, and parts before some of its names
LONGEST = 9  # parts before all names
MOST = 99  # dicts, and parts of one, that are looked into
AVERAGE = re.compile(  # what the key of a mean over a training is called
    r'(.*[^a-z])?(ema|swa|avg|averaged?|shadow|polyak|momentum)([^a-z].*)?')
WRAPPER = re.compile(r'(?<![^.])_\w+\.')  # a part of a name: `_orig_mod.`


class NothingFits(Refused):
    """No network in a file is the one that was looked for.

    Attributes:
        weights: the largest network in it, name -> tensor.
    """

    def __init__(self, message, weights):
        super().__init__(message)
        self.weights = weights


class Network(NamedTuple):
    """The weights of one network in a file.

    Attributes:
        place: keys and prefix, with dots between them; '' at the top.
        weights: name without the prefix -> tensor.
        stripped: what its names lost, prefixes and parts that wrappers add.
        skipped: beginnings of the names in the same dict that it has not.
        fitted: what `fits` returned.
    """
    place: str
    weights: dict
    stripped: list
    skipped: list
    fitted: object


class Contents(NamedTuple):
    """Where a file has named tensors.

    Attributes:
        dicts: keys that lead to a dict with some -> name -> tensor.
        top: what lies at the top of the file, for a message.
    """
    dicts: dict
    top: str


def look_through(checkpoint):
    """The `Contents` of what `checkpoints.load` returned."""
    return Contents(dict(_dicts(checkpoint, (), set())), _top(checkpoint))


def find(contents, path, fits, take='', branch='teacher', parts=False):
    """Find the network that fits among those that a file holds.

    Weights beside an average of them are preferred. Otherwise the file or
    `take` must leave no choice.

    Args:
        contents (Contents): of the file.
        path (str): for messages.
        fits (callable): weights (dict) to any object; raises `Refused` for
            those of another network.
        take (str): keys or prefix of the network to take.
        branch (str): which of a `student` and a `teacher` to take.
        parts (bool): take also a network that has only some of the names of
            its dict.

    Returns:
        tuple: the `Network`, and the places of the others that fit.

    Raises:
        NothingFits: with the refusal of the largest network.
        Refused: if there are no weights, or several networks fit.
    """
    if not contents.dicts:
        raise Refused(f'{path} holds no named tensors, so no weights' +
                      contents.top)
    dicts = _largest(contents.dicts) or contents.dicts
    networks, refusals = [], {keys: [] for keys in dicts}
    for keys, tensors in dicts.items():
        found = _first_fit(
            _readings(keys, tensors), path, fits, refusals[keys])
        if parts and not found:
            found = _parts(keys, tensors, path, fits)
        networks += found
    fitting = [n for n in networks if _at(n.place, take)]
    if networks and not fitting:
        raise Refused(f'{path} has no network at {take!r} that fits, but at '
                      f'{_listed(networks)}')
    if not fitting:
        largest = max(
            dicts,
            key=lambda keys: sum(t.numel() for t in dicts[keys].values()))
        raise NothingFits(
            f'{refusals[largest][-1]}' + (contents.top if largest else ''),
            dicts[largest])
    chosen = _prefer(fitting, branch)
    if not chosen:
        raise Refused(f'{path} holds several networks that fit, at '
                      f'{_listed(fitting)}: tools/convert.py takes one of '
                      'them with --take')
    return chosen, [n.place for n in networks if n is not chosen]


def describe(network, others, otherwise):
    """What was preferred, stripped and skipped, as lines of text.

    Args:
        otherwise (str): how to take one of the others.
    """
    if others:
        yield (f'taken are the weights at {network.place!r}, not those at '
               f'{first_few([*map(repr, others)])}: {otherwise}')
    if network.stripped:
        yield ('left out of all names there: '
               f'{first_few([*map(repr, network.stripped)])}')
    if network.skipped:
        yield f'beside them, and left out: {first_few(network.skipped)}'


def _dicts(node, keys, seen):
    """All dicts with named tensors, with the keys that lead to them."""
    if (id(node) in seen or len(keys) > DEEPEST
            or not isinstance(node, CONTAINERS)):
        return
    tensors, inner = {}, False
    for key, value in _named(node):
        if isinstance(value, torch.Tensor):
            tensors[key] = value
        inner = inner or isinstance(value, CONTAINERS)
    if inner or tensors or len(node) > SHORT:
        seen.add(id(node))
    if tensors:
        yield keys, tensors
    for key, value in _named(node) if inner else ():
        if isinstance(value, CONTAINERS):
            yield from _dicts(value, (*keys, key), seen)


def _named(node):
    """What lies in a dict by names, in a list or tuple by positions."""
    if isinstance(node, dict):
        return ((k, v) for k, v in node.items() if isinstance(k, str))
    return ((str(i), value) for i, value in enumerate(node))


def _largest(groups):
    """Of many dicts of tensors those with the most names, in their order."""
    sizes = sorted(map(len, groups.values()), reverse=True)
    least = sizes[MOST] + 1 if len(sizes) > MOST else 0
    return {key: group for key, group in groups.items() if len(group) >= least}


def _readings(keys, tensors):
    """Tensors by their names, then by these without the parts of wrappers.

    Yields:
        tuple: place, name -> tensor, what the names lost.
    """
    yield keys, tensors, []
    plain = {WRAPPER.sub('', name): value for name, value in tensors.items()}
    stripped = sorted(
        {part
         for name in tensors
         for part in WRAPPER.findall(name)})
    if len(plain) < len(tensors):  # two names would become one
        plain, stripped = tensors, []
    if stripped:
        yield keys, plain, stripped
    while len(stripped) < LONGEST and (first := _shared_part(plain)):
        keys, stripped = (*keys, first[:-1]), [*stripped, first]
        plain = {name[len(first):]: value for name, value in plain.items()}
        yield keys, plain, stripped


def _shared_part(names):
    """The first part of all names, with its dot, or ''."""
    (first, dot), *others = {name.partition('.')[:2] for name in names}
    return first + dot if dot and not others else ''


def _parts(keys, tensors, path, fits):
    """The networks that have only some of the names of a dict."""
    *_, (keys, tensors, stripped) = _readings(keys, tensors)
    level = [((), tensors)]
    for _ in range(DEEPEST):
        below, networks = [], []
        for prefix, whole in level:
            for first, group in _largest(_groups(whole)).items():
                inner = (*prefix, first)
                below.append((inner, group))
                if whole.keys().isdisjoint(group):  # else it is there twice
                    reading = ((*keys, *inner), group,
                               [*stripped, '.'.join(inner) + '.'])
                    networks += [
                        network._replace(skipped=_outside(tensors, inner))
                        for network in _first_fit([reading], path, fits, [])
                    ]
        if networks:
            return networks
        level = below
    return []


def _groups(tensors):
    """Tensors by the first part of their names, then by the rest."""
    groups = {}
    for name, value in tensors.items():
        first, _, rest = name.partition('.')
        if rest:
            groups.setdefault(first, {})[rest] = value
    return groups


def _outside(names, parts):
    """The beginnings in which names differ from a prefix of these parts."""
    outside = set()
    for name in names:
        own = name.split('.')
        same = 0
        while own[same:same + 1] == [*parts[same:same + 1]] != []:
            same += 1
        if same < len(parts):
            outside.add('.'.join(own[:same + 1]))
    return sorted(outside)


def _first_fit(readings, path, fits, refusals):
    """The network of the first reading that fits, in a list, or none."""
    for keys, weights, stripped in readings:
        try:
            weights = checkpoints.state_dict_of(weights, path)
            fitted = fits(weights)
        except Refused as error:
            refusals.append(error)
            continue
        return [Network('.'.join(keys), weights, stripped, [], fitted)]
    return []


def _at(place, take):
    return f'.{take.strip(".")}.' in f'.{place}.' if take else True


def _prefer(networks, branch):
    """The one to take, or None if nothing says which."""
    plain = [n for n in networks if not AVERAGE.fullmatch(n.place.lower())]
    networks = plain or networks
    if all(
            _at(n.place, 'student') or _at(n.place, 'teacher')
            for n in networks):
        networks = [n for n in networks if _at(n.place, branch)] or networks
    first, *others = networks
    if any(_differ(first.weights, other.weights) for other in others):
        return None
    return first


def _differ(weights, others):
    return weights.keys() != others.keys() or not all(
        torch.equal(value, others[name]) for name, value in weights.items())


def _listed(networks):
    return first_few([repr(network.place) for network in networks])


def _top(checkpoint):
    """What lies at the top of a file, for a message."""
    if not isinstance(checkpoint, dict):
        return f'; it is a {type(checkpoint).__name__}'
    names = [str(key) for key in checkpoint]
    return f'; at its top are {first_few(names)}' if names else ''
