import os

import pytest
from helpers.runs import CONFIG


@pytest.fixture(scope='session')
def config(tmp_path_factory, shapes_root):
    """A config of a distillation of 12 iterations, in 3 epochs."""
    file = tmp_path_factory.mktemp('config') / 'fd.py'
    file.write_text(CONFIG.format(repo=os.getcwd(), root=shapes_root))
    return file
