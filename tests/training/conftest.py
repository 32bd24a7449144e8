import os

import pytest
from helpers.runs import CONFIG


@pytest.fixture(scope='session')
def config(tmp_path_factory, shapes_root):
    """A config of a distillation of 12 iterations, in 3 epochs."""
    file = tmp_path_factory.mktemp('config') / 'fd.py'
    file.write_text(CONFIG.format(repo=os.getcwd(), root=shapes_root))
    return file


@pytest.fixture(autouse=True)
def unformatted_configs(monkeypatch):
    """A Runner formats its config several times, which takes seconds."""
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_:
                        (text, True))
