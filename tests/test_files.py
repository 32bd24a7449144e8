"""Files are written whole or not at all, and kept in one folder."""
import os
import pickle
from pathlib import Path

import pytest
from helpers.rights import without_root_rights

from mmfd import files
from mmfd.errors import Refused


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / 'weights.pth'
    file.write_bytes(b'old')
    with pytest.raises(AttributeError):  # lambdas cannot be written
        with files.written_whole(file) as part:
            part.write_bytes(b'half')
            pickle.dumps(lambda: None)
    assert file.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['weights.pth']


def test_cache_is_below_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert files.cache_folder('scans') == tmp_path / 'mmfd' / 'scans'
    monkeypatch.setenv('XDG_CACHE_HOME', '')
    assert files.cache_folder('x') == Path.home() / '.cache/mmfd/x'
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert files.cache_folder('x') == Path.home() / '.cache/mmfd/x'


def test_folder_that_cannot_be_written_to_is_refused_before_a_run(tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir(mode=0o500)
    with without_root_rights():
        with pytest.raises(Refused, match=f'{folder} cannot be written to'):
            files.make_folder(folder)
