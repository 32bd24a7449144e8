"""Parts of the host libraries taken away, as their next version may do."""
import pkgutil
import sys
from types import ModuleType

import pytest

from mmfd.hosts.lookup import find


class Without:
    """All of what it is made of, but for one name."""

    def __init__(self, module, gone):
        self.module, self.gone = module, gone

    def __getattr__(self, name):
        if name == self.gone:
            raise AttributeError(name)
        return getattr(self.module, name)


def _raise(self):
    raise AttributeError('gone')


@pytest.fixture
def take_away(monkeypatch):
    """Take a name such as `torch:ops.mkldnn._linear_pointwise` away."""

    def take(name):
        path, _, gone = name.replace(':', '.').rpartition('.')
        owner = pkgutil.resolve_name(path)
        if isinstance(owner, type):
            monkeypatch.setattr(owner, gone, property(_raise), raising=False)
        elif type(owner) is ModuleType:
            monkeypatch.delattr(owner, gone)
        else:  # what a class or a `__getattr__` brings
            above, _, last = path.rpartition('.')
            rest = Without(owner, gone)
            monkeypatch.setattr(pkgutil.resolve_name(above), last, rest)
            if path in sys.modules:
                monkeypatch.setitem(sys.modules, path, rest)
        find.cache_clear()

    yield take
    monkeypatch.undo()
    find.cache_clear()
