"""Which class a config means by `type=`, and what to say if there is none."""
import difflib

from mmengine import registry
from mmengine.registry import DefaultScope, Registry


def find_class(name, scope):
    """The class that `type=name` means in a config of this default scope.

    Args:
        name (str): with or without its library, as `mmfd.Teacher`.
        scope (str): the library of names without one.

    Returns:
        type | None: None where no registry knows the name.
    """
    with DefaultScope.overwrite_default_scope(scope):
        for root in _registries():
            with root.switch_scope_and_registry(None) as child:
                try:
                    cls = child.get(name)
                except (RuntimeError, TypeError):  # for '', '.x', 'a..b'
                    return None
            if cls is not None:
                return cls


def no_such_type(name):
    """A sentence: the name is unknown, and which known name is nearest."""
    known = []
    for root in _registries():
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
