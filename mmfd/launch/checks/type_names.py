"""Which class a config means by `type=`, and by which name it says so."""
import difflib
import inspect

from mmengine import registry
from mmengine.registry import DefaultScope, Registry

from mmfd.hosts import openmmlab


def find_class(name, scope):
    """The class that `type=name` means in a config of this default scope.

    Args:
        name (str): with or without its library, as `mmfd.Teacher`.
        scope (str): the library of names without one.

    Returns:
        type | None: None where no registry knows the name.
    """
    return next(find_classes(name, scope), None)


def find_classes(name, scope):
    """Everything that `type=name` may mean, one for each registry.

    Arguments as of `find_class`.
    """
    for _, cls in _found(name, scope):
        yield cls


def _found(name, scope):
    """(name of the registry, class) for each registry that knows a name."""
    for root in _registries():
        with DefaultScope.overwrite_default_scope(
                scope), root.switch_scope_and_registry(None) as child:
            try:
                cls = child.get(name)
            except (RuntimeError, TypeError):  # for '', '.x', 'a..b'
                return
        if cls is not None:
            yield root.name, cls


def name_of(imported):
    """The name of what a pure-Python config imports and gives as a `type`.

    Args:
        imported: a class or function, or the host's note of its import.

    Returns:
        str: with which `find_class` finds it, such as `mmfd.Teacher`. What is
        in no registry is named by its module. Anything else is returned as it
        is.
    """
    cls, path = openmmlab.import_noted(imported)
    if not inspect.isclass(cls) and not inspect.isfunction(cls):
        return imported
    for root in vars(registry).values():
        if not isinstance(root, Registry):
            continue
        of_scope = {s: child.module_dict for s, child in root.children.items()}
        for scope, classes in of_scope.items():
            for name, each in classes.items():
                if each is cls:
                    return f'{scope}.{name}'
        for name, each in root.module_dict.items():
            if each is cls:
                hidden = any(name in classes for classes in of_scope.values())
                return f'{root.scope}.{name}' if hidden else name
    return path or f'{cls.__module__}.{cls.__qualname__}'


def no_such_type(name, wanted=None):
    """A sentence: the name is unknown, and which known name is nearest.

    Args:
        name (str): that a config has.
        wanted (str): name of the registry that was asked, as `hook`. Where
            another one knows the name, the sentence says so. None: all were.
    """
    others = [kind for kind, _ in _found(name, 'mmengine')] if wanted else []
    if others:
        kind, expected = (
            each.replace('_', ' ') for each in (others[0], wanted))
        return (f'type={name!r} is the name of a {kind}, and that of a '
                f'{expected} is expected')
    known = []
    for root in _registries():
        if wanted not in (None, root.name):
            continue
        known += root.module_dict
        for scope, child in root.children.items():
            known += [f'{scope}.{cls}' for cls in child.module_dict]
    near = difflib.get_close_matches(name, known, n=1)
    advice = (f'; did you mean {near[0]!r}?'
              if near else ': check its spelling and custom_imports')
    return f'nothing is called type={name!r}{advice}'


def _registries():
    """The host's registries, without two that mmpretrain warns of."""
    return [
        root for root in vars(registry).values()
        if isinstance(root, Registry) and root not in (registry.FUNCTIONS,
                                                       registry.INFERENCERS)
    ]
