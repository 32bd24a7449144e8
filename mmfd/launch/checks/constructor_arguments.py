"""Which arguments a class or function reads, those of `**kwargs` included.

What a constructor takes as `**kwargs` is taken by the one above it, unless it
goes elsewhere.
"""
import ast
import inspect
import textwrap
from functools import cache
from typing import NamedTuple

import torch
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import Runner

from mmfd.launch.checks.type_names import find_classes

OF_REGISTRIES = {'type', '_scope_'}
# Keys that are read before the rest of a dict goes to a class
READ_BEFORE = {
    Hook: {'priority'},
    torch.nn.Module: {'requires_grad'},  # by what builds norms
}
# What takes the `**kwargs` of classes that hand them to something else
HANDED_ON = {
    CheckpointHook:
    lambda node, scope: [Runner.save_checkpoint],
    EMAHook:
    lambda node, scope: find_classes(
        node.get('ema_type', 'ExponentialMovingAverage'), scope),
}


def takes(taker, key, node, scope):
    """Whether a setting of this name is read; one that is refused is not.

    Args:
        taker (type | callable | set): a set is of the keys that are read.
        key (str): name of the setting.
        node (dict): that it is in.
        scope (str): the library of names without one.
    """
    if isinstance(taker, set):
        return key in taker
    if key in OF_REGISTRIES or inspect.isclass(taker) and any(
            key in also and issubclass(taker, cls)
            for cls, also in READ_BEFORE.items()):
        return True
    for cls, function in _constructors(taker):
        parameters = _parameters(function)
        if parameters is None:
            return True
        rest = [p.name for p in parameters.values() if p.kind == p.VAR_KEYWORD]
        if key in parameters and key not in rest:
            return True
        if not rest:
            return False
        uses = _uses(cls, function, rest[0])
        if key in uses.read:
            return True
        if cls in HANDED_ON:
            return any(
                takes(other, key, {}, scope)
                for other in HANDED_ON[cls](node, scope))
        if uses.elsewhere:
            return True
        if not uses.upwards:
            return False
    return False


def known_keys(takers):
    """Names of the arguments that any of these may take."""
    known = set()
    for taker in takers:
        if isinstance(taker, set):
            known |= taker
            continue
        for _, function in _constructors(taker):
            known |= {
                name
                for name, parameter in (_parameters(function) or {}).items()
                if parameter.kind not in (parameter.VAR_POSITIONAL,
                                          parameter.VAR_KEYWORD)
            }
    return known - {'self'}


def default_of(taker, key):
    """What an argument is if it is not set; None if that is not known."""
    constructors = [] if isinstance(taker, set) else _constructors(taker)
    for _, function in constructors:
        parameter = (_parameters(function) or {}).get(key)
        if parameter:
            return parameter.default
    return None


def _constructors(taker):
    """(class, its own constructor) up from a class; a function as it is."""
    if not inspect.isclass(taker):
        return [(None, taker)]
    return [(cls, inspect.unwrap(vars(cls)['__init__']))
            for cls in inspect.getmro(taker) if '__init__' in vars(cls)]


def _parameters(function):
    """Name -> parameter of a function; None for one of C, which hides them."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None


class _Uses(NamedTuple):
    """What a constructor does with its `**kwargs`."""
    read: set = frozenset()  # names that it takes out of them
    upwards: bool = False  # it passes them to the constructor above it
    elsewhere: bool = True  # it does anything else with them


@cache
def _uses(cls, function, kwargs):
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return _Uses()
    read, upwards, known = set(), False, set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Call(func=ast.Name(id='super'), args=start),
                    attr='__init__')) if not start or ast.unparse(
                        start[0]) == cls.__name__:
                passed = [
                    word.value for word in node.keywords
                    if word.arg is None and isinstance(word.value, ast.Name)
                    and word.value.id == kwargs
                ]
                upwards = upwards or bool(passed)
                known.update(passed)
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name() as name,
                    attr='get' | 'pop' | 'setdefault'),
                args=[ast.Constant(value=key), *_]) | ast.Subscript(
                    value=ast.Name() as name,
                    slice=ast.Constant(value=key)) | ast.Compare(
                        left=ast.Constant(value=key),
                        comparators=[ast.Name() as name]):
                if name.id == kwargs:
                    read.add(key)
                    known.add(name)
    names = {
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == kwargs
    }
    return _Uses(read, upwards, bool(names - known))


@cache
def source(cls):
    """The text of a class and of those above it; of a function its own."""
    return _texts(inspect.getmro(cls) if inspect.isclass(cls) else [cls])


@cache
def source_around(cls):
    """The text of the files that a class and those above it stand in."""
    classes = inspect.getmro(cls) if inspect.isclass(cls) else [cls]
    return _texts({inspect.getmodule(each) for each in classes})


def _texts(objects):
    texts = []
    for each in objects:
        try:
            texts.append(inspect.getsource(each))
        except (OSError, TypeError):  # of C, or made while running
            pass
    return '\n'.join(texts)
