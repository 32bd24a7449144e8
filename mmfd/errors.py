"""Refused: the one exception that a user can cause, and a kind of it.

Also what refuses a setting's value of another kind than is expected.
"""
from numbers import Real


class Refused(ValueError):
    """mmfd cannot do what a user asked for; the message says what to change.

    It is raised where a user's input is found to be wrong: a config, an
    option, a file, a folder, the environment. The commands print its message
    and end with exit status 1. Any other exception is a bug, of mmfd or of a
    library, and keeps its traceback.
    """


class NotWeights(Refused):
    """A file can be read, and holds what weights are not made of.

    The message goes on a sentence that begins with the name of the file.
    """


def causes(error):
    """An error and those that it came of, the first of all at the end."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def number(place, value, expected, within, kind=Real):
    """The value of a setting, a number within its range.

    Args:
        place (str): of the setting in a config.
        value (object): what came.
        expected (str): of it, in words.
        within (Callable): whether a number is in the range. NaN is in none
            that `<` and `<=` describe.
        kind (type): `int` for a whole number.

    Raises:
        Refused: for any other value, True and False among them.
    """
    if (isinstance(value, bool) or not isinstance(value, kind)
            or not within(value)):
        raise Refused(f'{place}={_short(value)}: {expected} is expected')
    return value


def described(given):
    """What something is, in few words: its shape, if it has one, or class."""
    name = type(given).__name__
    if hasattr(given, 'shape'):
        return f'a {name} {tuple(given.shape)}'
    return f'a {name}'


def one_of(place, value, choices):
    """The value of a setting, a text that is one of `choices`.

    Raises:
        Refused: for any other value.
    """
    if not isinstance(value, str) or value not in choices:
        raise Refused(f'{place}={_short(value)}: expected one of '
                      f'{", ".join(map(repr, choices))}')
    return value


def dict_with(place, value, *keys):
    """The value of a setting, a dict that has these keys.

    Raises:
        Refused: for any other value.
    """
    if not isinstance(value, dict) or not {*keys} <= value.keys():
        having = f'with {", ".join(keys)} ' if keys else ''
        raise Refused(f'{place} is {_short(value)}: a dict {having}is '
                      'expected')
    return value


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'
