"""For the tests of other rooms, until they import it from the helpers."""
import runpy
import sys

import pytest
from helpers.commands import command  # noqa: F401
from helpers.small_configs import FD, FINETUNE  # noqa: F401


def refused(monkeypatch, tool, *args):
    """The message of a command in this process."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(f'tools/{tool}.py', run_name='__main__')
    message = stop.value.code
    assert isinstance(message, str) and message.startswith('error: ')
    return message
