"""Images are found in any folder, and listed once."""
import os
import re
import resource

import pytest
from helpers.images import solid
from helpers.rights import without_root_rights

from mmfd.data import scan
from mmfd.data.decode import BrokenImage, errors_as_broken_image, read
from mmfd.data.table import read_table, write_table
from mmfd.errors import Refused
from mmfd.hosts import log


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'mmfd' / 'scans'


def test_loop_of_links_ends(tmp_path):
    solid(tmp_path / 'a/b/x.jpg')
    (tmp_path / 'a/b/up').symlink_to(tmp_path / 'a')
    (tmp_path / 'a/side').symlink_to(tmp_path / 'a/b')
    assert scan.find_images(tmp_path) == ['a/b/x.jpg', 'a/side/x.jpg']


def test_link_to_itself_is_one_broken_image_among_good_ones(tmp_path):
    solid(tmp_path / 'a.jpg')
    (tmp_path / 'b.jpg').symlink_to(tmp_path / 'b.jpg')
    (tmp_path / 'c').symlink_to(tmp_path / 'c')
    assert scan.find_images(tmp_path) == ['a.jpg', 'b.jpg']
    with pytest.raises(BrokenImage, match='Too many levels of symbolic'):
        with errors_as_broken_image():
            read(tmp_path / 'b.jpg', 100)


def test_images_of_formats_that_are_not_read_are_counted_once(
        tmp_path, warned):
    solid(tmp_path / 'a/x.jpg')
    (tmp_path / 'a/x.jpg').rename(tmp_path / 'a/x.JFIF')  # as Windows says
    for name in ('1.HEIC', '2.heic', '3.dng', '4.txt'):
        (tmp_path / 'a' / name).touch()
    for _ in range(2):
        assert scan.find_images(tmp_path) == ['a/x.JFIF']
    [line] = warned
    assert ': 1 .dng, 2 .heic files are images of formats that are' in line


def test_name_that_is_no_utf8_is_found_and_read(tmp_path):
    name = os.fsdecode(b'caf\xe9.png')
    solid(tmp_path / 'a.png')
    (tmp_path / 'a.png').rename(tmp_path / name)
    assert scan.find_images(tmp_path) == [name]
    assert read(tmp_path / name, 100)[1:4] == b'PNG'


def test_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Refused, match='no image folder .*--data-root'):
        scan.find_images(tmp_path / 'images')


@pytest.mark.parametrize('locked', ['', 'deep'])
def test_folder_without_the_right_to_read_is_refused(tmp_path, locked):
    solid(tmp_path / 'images/deep/a.jpg')
    (tmp_path / 'images' / locked).chmod(0)
    message = (f'cannot list the image folder {tmp_path}/images/{locked}: '
               'Permission denied; grant the right')
    with without_root_rights(), pytest.raises(
            Refused, match=re.escape(message)):
        scan.find_images(tmp_path / 'images')


# --- the cached list ---


@pytest.fixture
def eager(monkeypatch):
    """Cache the list of any folder, however new."""
    monkeypatch.setattr(scan, 'LARGE', 1)
    monkeypatch.setattr(scan, 'SETTLED', -1.)


def record_listed(monkeypatch):
    listed, scandir = [], os.scandir

    def listing(path):
        listed.append(os.path.basename(path))
        return scandir(path)

    monkeypatch.setattr(scan.os, 'scandir', listing)
    return listed


def test_second_scan_lists_only_the_folders_that_changed(
        tmp_path, eager, monkeypatch):
    for name in 'a/1.jpg', 'b/2.jpg', 'c/3.jpg':
        solid(tmp_path / 'images' / name)
    first = scan.find_images(tmp_path / 'images')
    listed = record_listed(monkeypatch)
    assert scan.find_images(tmp_path / 'images') == first and not listed
    solid(tmp_path / 'images/b/4.jpg')
    (tmp_path / 'images/c/3.jpg').unlink()
    assert scan.find_images(tmp_path /
                            'images') == ['a/1.jpg', 'b/2.jpg', 'b/4.jpg']
    assert sorted(listed) == ['b', 'c']


def test_folder_that_was_just_written_to_is_listed_again(
        tmp_path, cache, monkeypatch):
    """Two changes within one tick of the clock leave one time behind."""
    monkeypatch.setattr(scan, 'LARGE', 1)
    solid(tmp_path / 'images/1.jpg')
    scan.find_images(tmp_path / 'images')
    [folder] = kept(cache)
    assert (folder.path, folder.changed) == ('', scan.CHANGING)
    listed = record_listed(monkeypatch)
    scan.find_images(tmp_path / 'images')
    assert listed == ['']


def test_image_unpacked_into_a_folder_with_its_old_time_is_found(
        tmp_path, eager):
    solid(tmp_path / 'images/1.jpg')
    scan.find_images(tmp_path / 'images')
    before = os.stat(tmp_path / 'images')
    solid(tmp_path / 'images/2.jpg')
    os.utime(tmp_path / 'images', ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(scan.find_images(tmp_path / 'images')) == 2


def test_cached_link_whose_folder_has_gone_is_left_out(tmp_path, eager):
    solid(tmp_path / 'images/1.jpg')
    solid(tmp_path / 'disk/2.jpg')
    (tmp_path / 'images/linked').symlink_to(tmp_path / 'disk')
    assert len(scan.find_images(tmp_path / 'images')) == 2
    (tmp_path / 'disk').rename(tmp_path / 'unmounted')
    assert scan.find_images(tmp_path / 'images') == ['1.jpg']


def test_folder_that_goes_away_during_a_scan_is_not_taken_for_its_first_part(
        tmp_path, monkeypatch):
    for name in 'a/1.jpg', 'b/2.jpg':
        solid(tmp_path / 'disk/images' / name)
    disk, scandir = tmp_path / 'disk', os.scandir

    def unmount_after_a_folder(path):
        entries = scandir(path)
        if os.path.basename(path) in 'ab' and disk.exists():
            disk.rename(tmp_path / 'unmounted')
        return entries

    monkeypatch.setattr(scan.os, 'scandir', unmount_after_a_folder)
    with pytest.raises(Refused, match='cannot list the image folder .*/[ab]:'):
        scan.find_images(disk / 'images')


def test_long_scan_logs_how_far_it_is(tmp_path, monkeypatch):
    for name in 'a/1.jpg', 'b/2.jpg', 'b/c/3.jpg':
        solid(tmp_path / 'images' / name)
    lines = []
    monkeypatch.setattr(log, 'info', lines.append)
    scan.find_images(tmp_path / 'images', log_every=0.)
    assert len(lines) == 4
    assert lines[-1].endswith(': 3 images in 4 folders so far')


def kept(cache):
    """The folders in the only table of the cache."""
    [file] = cache.iterdir()
    table = read_table(file, scan.COLUMNS)
    return [scan.Folder(*note) for note in table.notes['listed']]


def test_any_damage_of_the_cache_is_noticed_and_it_is_made_anew(
        tmp_path, eager, cache):
    for name in '1.jpg', 'a/2.jpg', 'a/b/3.jpg':
        solid(tmp_path / 'images' / name)
    found = scan.find_images(tmp_path / 'images')
    [file] = cache.iterdir()
    sound = file.read_bytes()
    for place in range(len(sound)):
        flipped = bytes([sound[place] ^ 1])
        file.write_bytes(sound[:place] + flipped + sound[place + 1:])
        assert read_table(file, scan.COLUMNS) is None, place
        file.write_bytes(sound[:place])
        assert read_table(file, scan.COLUMNS) is None, place
    assert scan.find_images(tmp_path / 'images') == found
    assert file.read_bytes() == sound


def test_no_room_for_the_cache_is_a_warning_and_leaves_nothing(
        tmp_path, eager, cache, warned):
    solid(tmp_path / 'images/1.jpg')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # bytes a file
    try:
        assert scan.find_images(tmp_path / 'images') == ['1.jpg']
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [message] = warned
    assert 'File too large' in message and 'XDG_CACHE_HOME' in message
    assert not list(cache.iterdir())


@pytest.mark.parametrize('planted', ['link', 'open file', 'pipe'])
def test_list_that_others_could_write_is_not_read(tmp_path, eager, cache,
                                                  planted):
    solid(tmp_path / 'images/1.jpg')
    solid(tmp_path / 'other/9.jpg')
    for folder in 'other', 'images':
        scan.find_images(tmp_path / folder)
    listed = {
        scan.FolderImages('', read_table(file, scan.COLUMNS)).files()[0]: file
        for file in cache.iterdir()
    }
    file, false = listed['1.jpg'], listed['9.jpg']
    true = file.read_bytes()
    table = read_table(false, scan.COLUMNS)
    changed = os.stat(tmp_path / 'images').st_ctime_ns
    table.notes['listed'][0][1] = changed  # as of the folder as it is
    write_table(file, {
        n: (c.dtype, [c])
        for n, c in table.columns.items()
    }, lambda: table.notes)
    assert scan.find_images(tmp_path / 'images') == ['9.jpg']  # own: believed
    if planted == 'open file':
        file.chmod(0o664)
    else:
        file.rename(tmp_path / 'planted')
        if planted == 'link':
            file.symlink_to(tmp_path / 'planted')
        else:
            os.mkfifo(file)
    assert scan.find_images(tmp_path / 'images') == ['1.jpg']
    assert file.read_bytes() == true and not file.is_symlink()
    assert not os.stat(file).st_mode & 0o022


def test_cache_of_somebody_else_is_a_warning_and_not_used(
        tmp_path, eager, cache, warned):
    if os.geteuid():
        pytest.skip('only root can give files away')
    solid(tmp_path / 'images/1.jpg')
    cache.mkdir(parents=True)
    os.chown(cache, 12345, 12345)
    assert scan.find_images(tmp_path / 'images') == ['1.jpg']
    [message] = warned
    assert not [*cache.iterdir()]
    assert 'it is of user 12345, not 0' in message
    assert 'set XDG_CACHE_HOME to a folder of your own' in message


def test_folder_of_a_run_is_left_out(tmp_path):
    """Its curves and drawings would be a class of their own."""
    for name in ('cat/1.png', 'run/curves.png', 'run/a/vis/1.png',
                 'robot/1.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in 'run/run.json', 'run/run.lock', 'robot/run.json':
        (tmp_path / name).touch()
    assert scan.find_images(tmp_path) == ['cat/1.png', 'robot/1.png']
    assert scan.find_images(tmp_path / 'run') == ['a/vis/1.png', 'curves.png']
