import os
import shutil

import pytest
from helpers.small_configs import write_configs, write_teacher


@pytest.fixture(scope='session')
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp('teacher') / 'clip.pth'
    write_teacher(path)
    return path


@pytest.fixture
def project(tmp_path, shapes_root, teacher):
    """A folder with `fd.py`, its teacher `clip.pth`, and `finetune.py`."""
    write_configs(tmp_path, shapes_root)
    shutil.copy(teacher, tmp_path)
    return tmp_path


@pytest.fixture
def unchanged(project):
    """A function: whether the folder still holds nothing else."""
    before = set(os.listdir(project))
    return lambda *new: set(os.listdir(project)) == before | set(new)
