"""Files are written whole or not at all, and kept in one folder."""
import os
import pickle
import random
import signal
import stat
import time
from pathlib import Path

import pytest
import torch
from helpers.rights import without_root_rights

from mmfd import files
from mmfd.errors import Refused
from mmfd.weights import checkpoints


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / 'weights.pth'
    file.write_bytes(b'old')
    with pytest.raises(AttributeError):  # lambdas cannot be written
        with files.written_whole(file) as part:
            part.write_bytes(b'half')
            pickle.dumps(lambda: None)
    assert file.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['weights.pth']


def test_ctrl_c_at_any_moment_leaves_nothing_half_written(tmp_path):
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    delays = random.Random(0)
    for _ in range(500):
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, delays.uniform(1e-6, 3e-4))
            with files.written_whole(tmp_path / 'weights.pth') as part:
                part.write_bytes(b'half')
                while True:
                    time.sleep(1e-4)
        assert not os.listdir(tmp_path)
    signal.signal(signal.SIGALRM, before)


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


@pytest.mark.parametrize('name, message', [
    ('~/runs', 'nobody has replaced the ~ in ~/runs: write /'),
    ('x' * 300, 'File name too long'),
])
def test_folder_with_an_impossible_name_is_refused_and_not_made(
        tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    new = files.missing_folders(name)
    with pytest.raises(Refused, match=message):
        files.make_folder(name)
    files.remove_empty(new)
    assert not os.listdir(tmp_path)


# --- caches are one's own ---


def permissions(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def open_umask():
    """As on systems where every user has a group."""
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_weights_can_be_read_by_whom_any_new_file_can(tmp_path, open_umask,
                                                      suffix):
    path = tmp_path / f'student.{suffix}'
    checkpoints.save(dict(w=torch.ones(2)), path, {})
    assert permissions(path) == 0o664


def test_folder_of_a_cache_is_closed_to_others(tmp_path, open_umask):
    files.make_own_folder(tmp_path / 'new')
    (tmp_path / 'old').mkdir()
    assert permissions(tmp_path / 'old') == 0o775
    files.make_own_folder(tmp_path / 'old')
    assert permissions(tmp_path / 'new') == permissions(
        tmp_path / 'old') == 0o755
    (tmp_path / 'link').symlink_to(tmp_path / 'old')
    files.make_own_folder(tmp_path / 'link')


@pytest.fixture
def somebody_else(tmp_path):
    """A function that gives a file or folder to another user."""
    if os.geteuid():
        pytest.skip('only root can give files away')
    return lambda path: os.lchown(path, 12345, 12345)


@pytest.mark.parametrize('kind', ['folder', 'link'])
def test_folder_of_somebody_else_is_no_cache(tmp_path, somebody_else, kind):
    (tmp_path / 'mine').mkdir()
    path = tmp_path / kind
    if kind == 'folder':
        path.mkdir()
    else:
        path.symlink_to(tmp_path / 'mine')
    somebody_else(path)
    with pytest.raises(PermissionError, match='it is of user 12345, not 0'):
        files.make_own_folder(path)


def test_own_file_is_no_link_no_pipe_and_of_nobody_else(
        tmp_path, somebody_else):
    for name in 'mine', 'theirs', 'open':
        (tmp_path / name).write_bytes(b'content')
    somebody_else(tmp_path / 'theirs')
    (tmp_path / 'open').chmod(0o664)
    (tmp_path / 'link').symlink_to(tmp_path / 'mine')
    os.mkfifo(tmp_path / 'pipe')
    for name, is_own in dict(
            mine=True,
            theirs=False,
            open=False,
            link=False,
            pipe=False,
            gone=False).items():
        assert files.is_own(tmp_path / name) == is_own
        assert files.read_own(tmp_path /
                              name) == (b'content' if is_own else None)
    assert files.read_own(tmp_path / 'theirs', shared=True) == b'content'
    assert files.read_own(tmp_path / 'link', shared=True) is None


def test_file_is_written_in_the_place_of_a_link_and_not_through_it(tmp_path):
    (tmp_path / 'kept').write_bytes(b'kept')
    (tmp_path / 'cache').symlink_to(tmp_path / 'kept')
    with files.written_whole(tmp_path / 'cache', mode=0o640) as part:
        assert permissions(part) == 0o640
        part.write_bytes(b'new')
    assert (tmp_path / 'kept').read_bytes() == b'kept'
    assert not (tmp_path / 'cache').is_symlink()
    assert (tmp_path / 'cache').read_bytes() == b'new'
