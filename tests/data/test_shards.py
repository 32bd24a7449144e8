"""Images in tar shards and Parquet files are what they are as files."""
import os
import pickle
import tarfile
import threading

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from helpers.images import solid
from helpers.rights import without_root_rights
from helpers.shards import (jpegs, write_folder, write_parquet, write_parquets,
                            write_tar, write_tars)

from mmfd.data import parquet_shards, roots, sampler, shards
from mmfd.data.decode import BrokenImage
from mmfd.data.image_folder import ImageFolder
from mmfd.data.sampler import ResumableSampler
from mmfd.errors import Refused

LOAD = [dict(type='mmfd.LoadImage')]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache/mmfd/shards'


class Pixels(ImageFolder):
    """A data set whose samples are pixels, without a host's transforms."""

    def __getitem__(self, index):
        return self.pipeline(self.get_data_info(int(index)))['img']


def pixels(root, split='train', held_out=0., **kwargs):
    return Pixels(str(root), split, LOAD, held_out=held_out, **kwargs)


@pytest.fixture
def three(tmp_path):
    images = jpegs(60)
    return [
        write_folder(tmp_path / 'folder', images),
        write_tars(tmp_path / 'tars', images, 25),
        write_parquets(tmp_path / 'parquets', images, 25)
    ]


def names(data, order):
    return [
        os.path.basename(data.get_data_info(int(i))['img_path']) for i in order
    ]


def test_folder_tars_and_parquet_have_equal_pixels_in_equal_order(three):
    folder, tars, parquets = map(pixels, three)
    assert len(folder) == len(tars) == len(parquets) == 60
    order = [*ResumableSampler(folder, seed=3)]
    for other in tars, parquets:
        assert [*ResumableSampler(other, seed=3)] == order
        for i in order:
            np.testing.assert_array_equal(other[i], folder[i])
    assert names(folder, order) == names(tars, order)
    path = tars.get_data_info(30)['img_path']
    assert path == f'{three[1]}/0001.tar/000030.jpg'
    assert 'train: 60 images of' in tars.source


@pytest.mark.parametrize('kind', [1, 2])
def test_by_shard_few_shards_are_read_at_a_time(three, kind):
    data = pixels(three[kind])
    order = ResumableSampler(data, seed=3, shards_at_once=2)
    order.set_epoch(1)
    indices = [*order]
    assert sorted(indices) == [*range(60)]
    assert indices != [*ResumableSampler(data, seed=3)]
    units = np.repeat(
        np.arange(len(data.images.parts[0].sizes())),
        data.images.parts[0].sizes())[indices]
    for start in range(0, len(set(units)), 2):
        first = [*dict.fromkeys(units.tolist())][start:start + 2]
        places = [i for i, unit in enumerate(units) if unit in first]
        assert places[-1] - places[0] + 1 == len(places)


def test_images_reach_another_process_as_paths_of_tables(three):
    for root in three[1:]:
        data = pixels(root)
        sent = pickle.dumps(data.images)
        assert len(sent) < 4000
        there = pickle.loads(sent)
        assert there.are_here and there[7] == data.images[7]
        path = pickle.loads(pickle.dumps(there[7]['img_path']))
        assert path.content(print) == data.images[7]['img_path'].content(print)


def test_a_process_that_cannot_read_the_table_knows_it(three, cache):
    sent = pickle.dumps(pixels(three[1]).images)
    for file in cache.iterdir():
        file.unlink()
    assert not pickle.loads(sent).are_here


def test_a_list_that_another_run_has_made_is_not_taken_for_the_own(tmp_path):
    """On a second machine, or later, labels may have other numbers."""
    [one] = jpegs(1).values()
    root = tmp_path / 'tars'
    for file, label in ('a', b'cat'), ('b', b'dog'), ('a', b'elk'):
        write_tar(root / f'{file}.tar', [('0.jpg', one), ('0.cls', label)])
        if file == 'b' or label == b'elk':
            data = pixels(root)  # dog is 1, elk 2
    assert data.metainfo['classes'] == ('dog', 'elk')
    sent = pickle.dumps(data.images)
    data.images.parts[0].images.table.path.unlink()
    assert pixels(root).summary() == data.summary()  # dog is 0, elk 1
    assert not pickle.loads(sent).are_here
    there = pickle.loads(pickle.dumps(data.images))
    assert there.are_here and there[:] == data.images[:]
    assert [i['gt_label'] for i in there[:]] == [1, 0]


def test_a_split_is_read_off_the_names_of_shards(tmp_path):
    images = jpegs(30)
    some, others = dict([*images.items()][:24]), dict([*images.items()][24:])
    write_tar(tmp_path / 'a/cc-train-00.tar', some)
    write_tar(tmp_path / 'a/cc-validation-00.tar', others)
    write_parquet(tmp_path / 'b/data/train-00000-of-00001.parquet', some)
    write_parquet(tmp_path / 'b/data/test-00000-of-00001.parquet', others)
    for root in 'ab':
        assert len(pixels(tmp_path / root)) == 24
        assert len(pixels(tmp_path / root, 'val')) == 6


@pytest.mark.parametrize('kind', [1, 2])
def test_held_out_images_are_the_rest_and_stay_as_shards_are_added(
        three, kind):
    root = three[kind]

    def names(split):
        data = pixels(root, split, .2)
        return {info['img_path'] for info in data.images[:]}

    train, val = names('train'), names('val')
    assert len(val) == 12 and len(train) == 48 and not train & val
    write = write_tar if kind == 1 else write_parquet
    suffix = '.tar' if kind == 1 else '.parquet'
    write(root / f'0009{suffix}', jpegs(10, 1))
    assert len(names('val')) == 14
    assert len(names('val') & val) >= 9


def test_one_shard_or_a_range_or_a_pattern_is_a_root(three):
    root = three[1]
    assert len(pixels(root / '0001.tar')) == 25
    assert len(pixels(root / '{0000..0001}.tar')) == 50
    assert len(pixels(root / '*2.tar')) == 10
    os.symlink(root, root.parent / '[1] x')
    assert len(pixels(root.parent / '[1] x/0001.tar')) == 25
    assert len(pixels(root.parent / '[1] x/{0000..0001}.tar')) == 50
    with pytest.raises(Refused, match='5 files, of which 2 are not there'):
        pixels(root / '{0000..0004}.tar')
    with pytest.raises(Refused, match=r'range \{0002..0000\} has no number'):
        pixels(root / '{0002..0000}.tar')
    with pytest.raises(Refused, match='no image folder .*nothing'):
        pixels(root / 'nothing*.tar')
    (root / 'x.txt').touch()
    with pytest.raises(Refused, match='names .txt files: expected are .tar'):
        pixels(root / 'x.txt')


def test_several_roots_of_all_kinds_are_one_set_in_their_weights(three):
    data = ImageFolder([*map(str, three)], 'train', LOAD, held_out=0.)
    assert len(data) == 180
    for settings in {}, dict(shards_at_once=2):
        order = ResumableSampler(data, 3, weights=[4, 1, 1], **settings)
        counts = np.zeros(180, int)
        for epoch in range(30):
            order.set_epoch(epoch)
            np.add.at(counts, [int(i) for i in order], 1)
        assert counts.reshape(3, 60).sum(1).tolist() == [3600, 900, 900]
        assert {*counts[:60]} == {60} and {*counts[60:]} == {15}


@pytest.mark.parametrize('settings', [{}, dict(shards_at_once=2)])
def test_mixed_batches_are_the_same_in_any_number_of_processes(
        three, monkeypatch, settings):
    data = ImageFolder([*map(str, three)], 'train', LOAD, held_out=0.)

    def of(rank, processes):
        monkeypatch.setattr(sampler, 'get_world_size', lambda: processes)
        monkeypatch.setattr(sampler, 'get_rank', lambda: rank)
        return [*ResumableSampler(data, 3, weights=[4, 1, 1], **settings)]

    alone = of(0, 1)
    for processes in 2, 3, 4:
        shared = [of(rank, processes) for rank in range(processes)]
        assert [i for turn in zip(*shared) for i in turn] == alone


@pytest.mark.parametrize('settings, message', [
    (dict(weights=[1, 2]), r'weights=\[1, 2\]: expected is a number above 0 '
     'for each of 1 data roots'),
    (dict(weights=[0]), 'above 0'),
    (dict(weights=['1']), 'above 0'),
    (dict(weights=3), 'weights=3: expected is a number above 0'),
    (dict(shards_at_once=0), 'shards_at_once=0: expected is a number from 1'),
    (dict(shards_at_once=True), 'shards_at_once=True'),
])
def test_settings_of_the_order_are_checked(three, settings, message):
    with pytest.raises(Refused, match=message):
        ResumableSampler(pixels(three[1]), **settings)


def test_weights_without_a_sum_are_refused(three):
    data = ImageFolder([*map(str, three)], 'train', LOAD, held_out=0.)
    with pytest.raises(Refused, match='above 0 for each of 3 data roots'):
        ResumableSampler(data, weights=[1e308] * 3)


def test_order_of_other_data_sets_knows_no_shards(three):
    for data in range(5), pixels(three[1], indices=20):
        with pytest.raises(Refused, match='for mmfd.ImageFolder without ind'):
            ResumableSampler(data, shards_at_once=2)


# --- labels ---


def test_labels_lie_beside_the_images_of_a_tar(tmp_path):
    images = jpegs(9)
    members = []
    for i, (name, data) in enumerate(images.items()):
        members += [(name, data),
                    (name.replace('.jpg', '.cls'), b'%d' % (i % 4)),
                    (name.replace('.jpg', '.txt'), b'a caption')]
    root = write_tar(tmp_path / 'train.tar', members).parent
    data = pixels(root)
    assert [i['gt_label'] for i in data.images[:]] == [0, 1, 2, 3] * 2 + [0]
    assert data.metainfo['classes'] == ('0', '1', '2', '3')
    assert 'gt_label' not in pixels(root, with_label=False).images[0]
    write_tar(root / 'more-train.tar', {'x.jpg': images['000000.jpg']})
    assert 'gt_label' not in pixels(root).images[0]
    with pytest.raises(
            Refused, match=r'more-train.tar/x.jpg has no .cls or label'):
        pixels(root, with_label=True)


def test_labels_of_parquet_have_the_names_that_hugging_face_wrote(tmp_path):
    path = tmp_path / 'train.parquet'
    write_parquet(path, jpegs(5), 2, [1, 0, 2, 2, 1], ['dog', 'cat', 'owl'])
    data = pixels(path)
    assert data.metainfo['classes'] == ('cat', 'dog', 'owl')
    assert [i['gt_label'] for i in data.images[:]] == [0, 1, 2, 2, 0]
    write_parquet(path, jpegs(5), 2, [1, 0, 2, 2, 7], ['dog', 'cat', 'owl'])
    assert pixels(path).metainfo['classes'] == ('7', 'cat', 'dog', 'owl')
    write_parquet(path, jpegs(5), 2, [1, 0, 2, 2, -1], ['dog', 'cat', 'owl'])
    assert 'gt_label' not in pixels(path).images[0]


def test_numbers_as_labels_keep_their_number(tmp_path):
    """Shards without an image of class 1 do not call class 2 class 1."""
    members = {'a.jpg': b'', 'a.cls': b'2', 'b.jpg': b'', 'b.cls': b'10'}
    data = pixels(write_tar(tmp_path / 'a.tar', members))
    assert [i['gt_label'] for i in data.images[:]] == [2, 10]
    assert len(data.metainfo['classes']) == 11


# --- what lies in shards besides images ---


def test_captions_masks_and_junk_are_no_images_and_links_are_said(
        tmp_path, warned):
    one = [*jpegs(1).values()][0]
    path = tmp_path / 'a.tar'
    write_tar(
        path,
        {
            'a.jpg': one,
            'a.txt': b'x',
            'a.seg.png': one,  # of the same sample
            'b.JPG': one,
            'b_mask.png': one,
            '._b.jpg': one,
            '__MACOSX/c.jpg': one,
            './d/e.v2.jpeg': one,
        })
    with tarfile.open(path, 'a') as tar:
        for kind, name in ((tarfile.SYMTYPE, 'f.jpg'), (tarfile.LNKTYPE,
                                                        'g.jpg'),
                           (tarfile.DIRTYPE, 'h.jpg'), (tarfile.FIFOTYPE,
                                                        'i.jpg')):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, '/etc/passwd'
            tar.addfile(member)
    data = pixels(path)
    assert names(data, range(len(data))) == ['a.jpg', 'b.JPG', 'e.v2.jpeg']
    said, = warned
    assert said.startswith(f'{path}: 2 images are links, which are not')


def test_images_of_a_format_that_is_not_read_are_counted(tmp_path, warned):
    write_tar(tmp_path / 'a.tar', {
        **jpegs(3), 'b.HEIC': b'x',
        'c.heic': b'x',
        '._d.heic': b'x'
    })
    assert len(pixels(tmp_path)) == 3
    assert [
        f'{tmp_path}/a.tar: 2 .heic files are images of a format that is '
        'not read'
    ] == warned


def test_long_and_strange_names_are_found(tmp_path):
    one = [*jpegs(1).values()][0]
    for kind in tarfile.GNU_FORMAT, tarfile.PAX_FORMAT:
        path = tmp_path / f'{kind}.tar'
        write_tar(path, {'x' * 300 + '.jpg': one, 'ü/é.jpg': one}, format=kind)
        data = pixels(path)
        assert [data[i].shape for i in range(2)] == [(12, 16, 3)] * 2


def test_same_names_are_different_images(tmp_path, three):
    a, b = [*jpegs(2).values()]
    path = write_tar(tmp_path / 'a.tar', [('1.jpg', a), ('1.jpg', b)])
    data = pixels(path)
    assert (data[0] != data[1]).any() and len(data) == 2


def test_samples_of_the_same_name_have_their_own_labels(tmp_path):
    a, b = jpegs(2).values()
    sample = [('0.jpg', a), ('0.cls', b'3')]

    def labels(name, members):
        path = write_tar(tmp_path / name / 'a.tar', members)
        return [info['gt_label'] for info in pixels(path).images[:]]

    assert labels('joined', [*sample, ('0.jpg', b), ('0.cls', b'1')]) == [3, 1]
    views = [('0.left.jpg', a), ('0.right.jpg', b), ('0.cls', b'3')]
    assert labels('views',
                  views + views[:2] + [('0.cls', b'1')]) == [3, 3, 1, 1]
    # as `tar -r` appends what is corrected
    assert labels('label', [*sample, ('0.cls', b'1')]) == [1]
    assert labels('image', [*sample, ('0.jpg', b)]) == [3, 3]


def test_tars_that_were_joined_by_cat_are_read_whole(tmp_path, warned):
    images = jpegs(60)
    tars = sorted(write_tars(tmp_path / 'tars', images, 25).iterdir())
    joined = tmp_path / 'all.tar'
    joined.write_bytes(b''.join(tar.read_bytes() for tar in tars))
    data = pixels(joined)
    assert names(data, range(60)) == [*images] and not warned
    # zeros alone, as of larger records, are no tar
    joined.write_bytes(tars[0].read_bytes() + bytes(1 << 18))
    assert len(pixels(joined)) == 25 and not warned


# --- what is broken ---


def test_a_truncated_tar_gives_the_images_before_its_end(tmp_path, warned):
    images = jpegs(20)
    path = write_tar(tmp_path / 'a.tar', images)
    sound, read = path.read_bytes(), []
    for length in range(0, len(sound), 777):
        path.write_bytes(sound[:length])
        warned.clear()
        try:
            data = pixels(path)
        except Refused as error:
            assert length < 2048 and 'no images in' in str(error)
            continue
        read.append(len(data))
        for i, name in enumerate([*images][:len(data)]):
            assert data.images[i]['img_path'].content(print) == images[name]
        whole = length >= len(sound) - tarfile.RECORDSIZE
        assert len(data) == 20 or not whole
        assert warned or whole
        assert all(str(path) in line for line in warned)
    assert sorted(read) == read and read[-1] == 20


def test_a_damaged_header_costs_its_own_image(tmp_path, warned):
    path = write_tar(tmp_path / 'a.tar', jpegs(6))
    sound = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        third = tar.getmembers()[2].offset
    for place in range(0, 512, 5):
        damaged = bytearray(sound)
        damaged[third + place] ^= 8
        path = tmp_path / f'{place}/a.tar'
        path.parent.mkdir()
        path.write_bytes(damaged)
        warned.clear()
        found = [
            os.path.basename(i['img_path']) for i in pixels(path).images[:]
        ]
        if 148 <= place < 156 and len(found) == 6:
            continue  # behind the digits of its own sum
        assert found == [f'00000{i}.jpg' for i in (0, 1, 3, 4, 5)]
        [line] = warned
        assert f'at byte {third:,} of' in line and 'one image is lost' in line


@pytest.mark.parametrize('size', [2**40, 2**62, 2**70])
def test_headers_of_names_may_say_any_length(tmp_path, warned, size):
    [one] = jpegs(1).values()
    name = 'x' * 300 + '.jpg'  # in a header of its own, before the other
    write_tar(tmp_path / 'a.tar', {'a.jpg': one})
    path = write_tar(
        tmp_path / 'b.tar', {
            'b.jpg': one,
            name: one
        },
        format=tarfile.GNU_FORMAT)
    with tarfile.open(path) as tar:
        start = tar.getmembers()[1].offset
    damaged = bytearray(path.read_bytes())
    header = memoryview(damaged)[start:start + tarfile.BLOCKSIZE]
    header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    header[148:156] = b' ' * 8
    header[148:156] = b'%06o\0 ' % sum(header)
    path.write_bytes(damaged)
    assert names(pixels(tmp_path), range(2)) == ['a.jpg', 'b.jpg']
    assert warned


def test_a_shard_that_is_changed_later_gives_no_wrong_image(tmp_path):
    images = jpegs(6)
    path = write_tar(tmp_path / 'a.tar', images)
    data = pixels(path)
    write_tar(path, {'first.jpg': b'x' * 900, **images})
    for info in data.images[:]:
        with pytest.raises(BrokenImage, match='changed since it was listed'):
            info['img_path'].content(print)
    path.write_bytes(b'')
    with pytest.raises(BrokenImage, match='changed since it was listed'):
        data[3]
    path.unlink()
    with pytest.raises(BrokenImage, match='No such file') as raised:
        data[3]
    assert raised.value.unread  # so it is waited for
    assert str(data.get_data_info(3)['img_path']).endswith('a.tar/image 3')


def test_row_groups_that_are_changed_later_give_no_wrong_image(tmp_path):
    path = write_parquet(tmp_path / 'a.parquet', jpegs(14))
    data = pixels(path)
    images = data.images[:]
    for count in 14, 7:  # as many row groups, and fewer
        write_parquet(path, jpegs(count, 1))
        for info in images:
            with pytest.raises(BrokenImage, match='changed since it was list'):
                info['img_path'].content(print)
    write_parquet(path, jpegs(14))
    assert data[13].shape == (12, 16, 3)


def test_packed_shards_are_refused_with_what_to_do(tmp_path):
    write_tar(tmp_path / 'a.tar.gz', {'a.jpg': b''})
    with pytest.raises(Refused, match='1 packed files .a.tar.gz.: unpack'):
        pixels(tmp_path)
    (tmp_path / 'a.tar.gz').rename(tmp_path / 'a.tar')
    (tmp_path / 'a.tar').write_bytes(b'\x1f\x8b' * 700)
    with pytest.raises(Refused, match='no images in .* 1 .tar files'):
        pixels(tmp_path)


def test_one_shard_that_is_none_is_said_and_left_out(three, warned):
    for kind, root in enumerate(three[1:]):
        suffix = ('.tar', '.parquet')[kind]
        (root / f'0001{suffix}').write_bytes(b'nothing' * 300)
        warned.clear()
        data = pixels(root)
        assert len(data) == 35
        [line] = warned
        assert f'0001{suffix}: it ' in line
        assert 'left out: 1 broken parts of shards' in data.source


def test_images_of_parquet_that_are_none_are_broken_one_by_one(tmp_path):
    images = jpegs(4)
    images['000001.jpg'], images['000002.jpg'] = None, b'no image'
    data = pixels(write_parquet(tmp_path / 'a.parquet', images))
    assert data[0].shape == data[3].shape == (12, 16, 3)
    with pytest.raises(BrokenImage, match='no bytes, perhaps a path alone'):
        data[1]
    with pytest.raises(BrokenImage, match='it is none of JPEG'):
        data[2]


@pytest.mark.parametrize('kind', [
    pyarrow.binary(),
    pyarrow.large_binary(),
    pyarrow.binary_view(),
    pyarrow.dictionary(pyarrow.int32(), pyarrow.binary()),
    pyarrow.struct(dict(bytes=pyarrow.large_binary(), path=pyarrow.string()))
])
def test_bytes_of_any_kind_are_images(tmp_path, three, kind):
    images = [*jpegs(60).values()]
    if pyarrow.types.is_struct(kind):
        images = [dict(bytes=image, path=None) for image in images]
    elif pyarrow.types.is_dictionary(kind):
        images = pyarrow.array(images).dictionary_encode()
    table = pyarrow.table(dict(image=pyarrow.array(images, kind)))
    assert table.schema.field('image').type == kind
    (tmp_path / 'kind').mkdir()
    pyarrow.parquet.write_table(
        table, tmp_path / 'kind/0.parquet', row_group_size=16)
    data, folder = pixels(tmp_path / 'kind'), pixels(three[0])
    for i in range(60):
        np.testing.assert_array_equal(data[i], folder[i])


def test_parquet_without_images_is_refused_with_its_columns(tmp_path):
    import pyarrow
    import pyarrow.parquet as parquet
    path = tmp_path / 'a.parquet'
    parquet.write_table(pyarrow.table(dict(text=['a'], n=[1])), path)
    with pytest.raises(Refused, match='no column holds bytes, only text, n'):
        pixels(path)
    parquet.write_table(pyarrow.table(dict(u=[b'a'], v=[b'b'])), path)
    with pytest.raises(Refused, match='u, v hold bytes; call the one with im'):
        pixels(path)


def test_images_larger_than_their_limit_are_not_read(tmp_path):
    images = {'a.jpg': b'x' * 5000}
    small = [dict(type='mmfd.LoadImage', max_pixels=100)]
    for path in (write_tar(tmp_path / 'a.tar', images),
                 write_parquet(tmp_path / 'a.parquet', images)):
        data = Pixels(str(path), 'train', small, held_out=0.)
        with pytest.raises(BrokenImage, match='5,000 bytes, more than an'):
            data[0]


@pytest.mark.parametrize('kind', [1, 2])
def test_a_shard_without_the_right_to_read_is_not_taken_for_broken(
        three, kind):
    path = sorted(three[kind].iterdir())[1]
    path.chmod(0)
    with without_root_rights(), pytest.raises(
            Refused, match=f'cannot read the shard {path}: Permission denied'):
        pixels(three[kind])
    path.chmod(0o644)
    assert len(pixels(three[kind])) == 60


# --- the table ---


def test_only_shards_that_changed_are_read_again(three, monkeypatch):
    root, listed = three[1], []
    pixels(root)
    kind = roots.KINDS['.tar']
    monkeypatch.setitem(
        roots.KINDS, '.tar',
        kind._replace(listed=lambda path: (listed.append(
            os.path.basename(path)), kind.listed(path))[1]))
    before = pixels(root)
    assert listed == []
    write_tar(root / '0001.tar', jpegs(5, 9))
    assert len(pixels(root)) == 40 and listed == ['0001.tar']
    (root / '0000.tar').unlink()
    after = pixels(root)
    assert len(after) == 15 and len(before) == 60
    np.testing.assert_array_equal(after[14], before[59])
    assert listed.count('0002.tar') <= 1


def test_a_shard_of_the_same_bytes_and_time_is_read_again(tmp_path):
    """Copies keep times, and labels fill up blocks of 512 bytes."""
    [one] = jpegs(1).values()
    path = tmp_path / 'a.tar'
    for label in b'3', b'1':
        status = path.exists() and path.stat()
        write_tar(path, {'0.jpg': one, '0.cls': label})
        if status:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            assert path.stat().st_size == status.st_size
        assert pixels(path).images[0]['gt_label'] == int(label)


def test_the_sum_does_not_depend_on_when_labels_were_met(
        tmp_path, monkeypatch):
    """Two machines may have listed shards at other times."""
    [image] = jpegs(1).values()

    def write(file, label):
        write_tar(tmp_path / 'tars' / file, {'0.jpg': image, '0.cls': label})

    def summary():
        return pixels(tmp_path / 'tars', with_label=True).summary()

    write('b.tar', b'dog')
    first = summary()
    write('a.tar', b'cat')
    later = summary()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'another'))
    assert summary() == later != first
    write('a.tar', b'cow')
    assert summary() not in (first, later)


def test_shards_are_listed_side_by_side_and_few_ahead(three, monkeypatch):
    write_tars(three[1], jpegs(60), 4)
    expected = names(pixels(three[1]), range(60))
    monkeypatch.setenv('XDG_CACHE_HOME', str(three[1].parent / 'another'))
    monkeypatch.setattr(shards, 'AT_ONCE', 3)
    kind, listed, first = roots.KINDS['.tar'], [], threading.Event()

    def slow(path):
        listed.append(path)
        if path.endswith('0000.tar'):
            assert first.wait(60)
        elif len(listed) == 6:  # as many as there may be
            threading.Timer(.3, lambda:
                            (ahead.append(len(listed)), first.set())).start()
        return kind.listed(path)

    ahead = []
    monkeypatch.setitem(roots.KINDS, '.tar', kind._replace(listed=slow))
    assert names(pixels(three[1]), range(60)) == expected
    assert ahead == [6] and len(listed) == 15


def test_row_groups_that_were_read_last_are_kept_within_a_bound(
        three, monkeypatch):
    data = pixels(three[2])
    parquet_shards._kept.clear()
    [data[i] for i in range(60)]
    assert len(parquet_shards._kept) == 10
    one = next(iter(parquet_shards._kept.values())).nbytes
    monkeypatch.setattr(parquet_shards, 'KEPT', 3 * one)
    data[0], parquet_shards._kept.popitem(last=False)
    [data[i] for i in range(59, -1, -1)]
    sizes = [a.nbytes for a in parquet_shards._kept.values()]
    assert 1 <= len(sizes) < 10 and sum(sizes) <= 3 * one


@pytest.mark.parametrize('braces', ['{a,b}', '{0..9..3}', '{train}'])
def test_braces_without_a_range_are_refused_by_what_is_read(tmp_path, braces):
    with pytest.raises(
            Refused, match='a range of numbers is expected, as {00'):
        pixels(tmp_path / f'{braces}.tar')


def test_several_labels_of_an_image_are_no_class(tmp_path):
    images = [dict(bytes=image, path=None) for image in jpegs(8).values()]
    pyarrow.parquet.write_table(
        pyarrow.table(dict(image=images, label=[[0, 1]] * 8)),
        tmp_path / 'train.parquet')
    assert pixels(tmp_path).metainfo['classes'] == ()
    with pytest.raises(Refused, match='has no .cls or label beside it'):
        pixels(tmp_path, with_label=True)


def test_files_of_a_series_that_are_not_there_are_counted(tmp_path):
    for number in 0, 3:
        write_parquet(tmp_path / f'data/train-{number:05}-of-00005.parquet',
                      jpegs(4))
    write_parquet(tmp_path / 'data/val-00000-of-00001.parquet', jpegs(4))
    assert pixels(tmp_path).source.endswith(
        'left out: 3 more files of data/train-*-of-00005')


def test_a_range_of_too_many_files_is_refused_before_they_are_named(tmp_path):
    with pytest.raises(Refused, match='has more than 1,000,000 numbers'):
        pixels(tmp_path / '{0..99999999999}.tar')


def test_a_folder_with_images_does_not_look_into_archives(tmp_path):
    solid(tmp_path / 'images/a.jpg')
    write_tar(tmp_path / 'images/all.tar', jpegs(3))
    beside = pixels(tmp_path / 'images')
    assert len(beside) == 1 and 'left out: 1 .tar files' in beside.source
    assert len(pixels(tmp_path / 'images/all.tar')) == 3


def test_shards_of_another_kind_are_said_to_be_left_out(three):
    """As those with captions that img2dataset writes beside its tars."""
    write_parquet(three[1] / '0000.parquet', jpegs(3))
    data = pixels(three[1])
    assert len(data) == 60 and 'left out: 1 .parquet files' in data.source


def test_hidden_shards_and_junk_are_not_found(tmp_path):
    for name in 'a.tar', '.b.tar', '__MACOSX/c.tar', 'd/e.tar':
        write_tar(tmp_path / name, {'1.jpg': b''})
    assert shards.find_files(tmp_path, ('.tar', )) == ['a.tar', 'd/e.tar']


def test_links_to_folders_above_themselves_are_not_followed(tmp_path):
    write_tar(tmp_path / 'root/d/e.tar', {'1.jpg': b''})
    for name, of in ('a', '.'), ('d/b', '..'), ('d/c', '.'), ('f', 'd'):
        (tmp_path / 'root' / name).symlink_to(of)
    for root in tmp_path / 'root', f'{tmp_path}/root/':
        assert shards.find_files(root, ('.tar', )) == ['d/e.tar', 'f/e.tar']
