"""For the tests of other rooms, until they import it from the helpers."""
from helpers.commands import command  # noqa: F401
from helpers.commands import refused as _refused
from helpers.small_configs import FD, FINETUNE  # noqa: F401


def refused(monkeypatch, tool, *args):
    return _refused(tool, *args)
