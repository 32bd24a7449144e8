"""Describe what a file may hold; refuse what does not fit, in one message."""
from fnmatch import fnmatchcase
from math import isfinite

import numpy as np
import torch

from mmfd.errors import Refused
from mmfd.weights.pickled_names import Stub

LARGEST = np.finfo(float).max
DEPTH = 20  # containers within containers that plain values may have
PLAIN_TYPES = (type(None), bool, int, float, complex, str, bytes, np.ndarray,
               np.generic, torch.Tensor, torch.dtype, torch.Size)


class Value:
    """One value.

    Args:
        expected (str): what it has to be, for the message.
        fits (callable): value -> whether it is.
    """

    def __init__(self, expected, fits):
        self.expected = expected
        self.fits = fits

    def misfits(self, value, where):
        """(where, what came, what was expected) of all that does not fit."""
        if not self.fits(value):
            yield where, described(value), self.expected


class Fields:
    """A dict whose keys have a meaning each.

    Args:
        required, optional (dict): key -> description; a text may have `*`.
        others: description of what has any other key.
        empty (bool): whether it may as well be empty.
        keys (type): of the keys.
        expected (str): what it has to be, for the message.
    """

    def __init__(self,
                 required=(),
                 optional=(),
                 others=None,
                 empty=False,
                 keys=str,
                 expected='a dict'):
        self.required, self.optional = dict(required), dict(optional)
        self.others = others or ANYTHING
        self.empty = empty
        self.keys = keys
        self.expected = expected

    def misfits(self, value, where):
        if not isinstance(value, dict):
            yield where, described(value), self.expected
            return
        if self.empty and not value:
            return
        for key in [key for key in self.required if key not in value]:
            yield _below(where, key), 'missing', self.required[key].expected
        known = {**self.optional, **self.required}
        patterns = [key for key in known if '*' in str(key)]
        for key, entry in value.items():
            below = _below(where, key)
            if type(key) is not self.keys:
                yield below, 'a key', f'keys that are {self.keys.__name__}'
                continue
            name = key if key in known else next(
                (p for p in patterns if fnmatchcase(key, p)), None)
            description = known.get(name, self.others)
            yield from description.misfits(entry, below)


class Entries:
    """A list with a description of each entry, in order."""

    def __init__(self, entries):
        self.entries = entries
        self.expected = f'a list of {len(entries)}'

    def misfits(self, value, where):
        fits = isinstance(value, (list, tuple))
        if not fits or len(value) != len(self.entries):
            yield where, described(value), self.expected
            return
        for number, (entry, each) in enumerate(zip(self.entries, value)):
            yield from entry.misfits(each, f'{where}[{number}]')


def check(value, description, what, turn):
    """Refuse a value that does not fit its description.

    Args:
        value: as read from a file.
        description (Value | Fields | Entries): of it.
        what (str): where it comes from, as the path of a file.
        turn (str): what the user can do.

    Raises:
        Refused: names the first that does not fit, what it is, and what was
            expected.
    """
    for where, came, expected in description.misfits(value, ''):
        raise Refused(f'{what}: {where or "it"} is {came}, expected was '
                      f'{expected}. {turn}')


def described(value):
    """A value in a few words."""
    if isinstance(value, torch.Tensor):
        finite = '' if is_finite(value) else ' that are not finite'
        dtype = str(value.dtype).removeprefix('torch.')
        return f'a tensor {(*value.shape, )} of {dtype}{finite}'
    if isinstance(value, (dict, list, tuple)):
        return f'a {type(value).__name__} of {len(value)}'
    if value is None or isinstance(value, (bool, int, float, str)):
        return _short(value)
    return f'a {type(value).__name__}'


def is_finite(tensor):
    """Whether all numbers of a tensor are finite, in one pass."""
    if not (tensor.numel() and tensor.is_floating_point()):
        return not tensor.is_complex()
    least, most = tensor.aminmax()
    return isfinite(least) and isfinite(most)


def is_number(value):
    """Whether it is a finite number, or a tensor that holds one."""
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and value.dtype != torch.bool and is_finite(
            value)
    return _is_type(value, int, float) and abs(value) <= LARGEST


def number(expected, least=-float('inf'), below=float('inf')):
    """Description of a finite number, from `least` on and below `below`."""
    return Value(expected,
                 lambda value: is_number(value) and least <= value < below)


def whole(expected, least=0, below=1 << 48):
    """Description of a whole number, from `least` on and below `below`."""
    return Value(expected,
                 lambda value: _is_type(value, int) and least <= value < below)


def listed(entry, expected):
    """Description of a list of any length."""
    return Value(
        expected, lambda value: isinstance(value, (list, tuple)) and all(
            map(entry.fits, value)))


def tensor(example, like, least=-float('inf')):
    """Description of a tensor of finite floats.

    Args:
        example (Tensor): whose shape it must have, and as many digits.
        like (str): what else has this shape, for the message.
        least (float): that its numbers may be.
    """
    shape, dtype = example.shape, example.dtype

    def fits(value):
        return isinstance(value, torch.Tensor) and (
            value.is_floating_point() and value.shape == shape
            and torch.finfo(value.dtype).eps <= torch.finfo(dtype).eps
            and value.layout is torch.strided and is_finite(value)
            and not (value.numel() and value.amin() < least))

    at_least = f', not below {least:g}' if isfinite(least) else ''
    digits = str(dtype).removeprefix('torch.')
    return Value(
        f'a tensor {(*shape, )} of finite floats in {digits} or finer'
        f'{at_least}, as {like}', fits)


def like(example):
    """Description of what may take the place of a plain value.

    Numbers may be other ones; text, length and names stay what they are.
    """
    if _is_type(example, int, float):
        return NUMBER
    if isinstance(example, (list, tuple)):
        return Entries([like(entry) for entry in example])
    if isinstance(example, dict) and any(isinstance(k, str) for k in example):
        return Fields({
            key: like(value)
            for key, value in example.items()
        },
                      others=NOTHING)
    if isinstance(example, dict):  # such as of milestones
        return Value(
            'a dict of numbers', lambda value: isinstance(value, dict) and all(
                map(is_number, [*value, *value.values()])))
    if isinstance(example, str):
        return Value(repr(example), lambda value: value == example)
    return PLAIN


def is_plain(value):
    """Whether it is text, numbers, arrays, and containers of such."""
    seen, layer = set(), [value]
    for _ in range(DEPTH):
        below = []
        for each in layer:
            if isinstance(each, dict):
                below += [*each, *each.values()]
            elif isinstance(each, (list, tuple, set, frozenset)):
                below += each
            elif isinstance(each, Stub):  # of an array in `meta`
                below += [each.args, each.state]
            elif not isinstance(each, PLAIN_TYPES):
                return False
        layer = [each for each in below if id(each) not in seen]
        seen.update(map(id, layer))
        if not layer:
            return True
    return False


def _is_type(value, *types):
    """Unlike `isinstance`, it takes no bool for an int."""
    return type(value) in types


def _below(where, key):
    return f'{where}.{_short(key, str)}' if where else _short(key, str)


def _short(value, write=repr):
    text = write(value) if not isinstance(value, int) else (
        f'{value}' if abs(value) < 1 << 70 else 'a number of many digits')
    text = ''.join(c if c.isprintable() else '?' for c in text[:81])
    return text if len(text) <= 80 else f'{text[:77]}...'


ANYTHING = Value('anything', lambda value: True)
NOTHING = Value('nothing there', lambda value: False)
PLAIN = Value('text, numbers, and lists and dicts of them', is_plain)
TEXT = Value('text', lambda value: isinstance(value, str))
FLAG = Value('True or False', lambda value: isinstance(value, bool))
NUMBER = number('a finite number')
COUNT = whole('a whole number, 0 or more')
LENGTH = whole('a whole number, 1 or more', least=1)
