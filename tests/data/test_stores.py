"""Images in the shards of object stores are those of local shards."""
import os
import pickle
import re
import resource
import subprocess
import sys
import time
from collections import Counter

import fsspec
import numpy as np
import pytest
from helpers.commands import command, refused
from helpers.shards import jpegs, write_parquets, write_tar, write_tars
from helpers.stores import SLOW, FaultyStore, write_certificate
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from torch.utils.data import DataLoader

from mmfd.data import kept_objects, parquet_shards, stores
from mmfd.data.decode import BrokenImage
from mmfd.data.image_folder import ImageFolder
from mmfd.data.roots import check_root
from mmfd.data.sampler import ResumableSampler
from mmfd.errors import Refused
from mmfd.hosts import object_stores

LOAD = [dict(type='mmfd.LoadImage'), dict(type='mmpretrain.PackInputs')]
SECRET = 'topsecret'


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Short pauses, and a cache and counters of a test's own."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv(kept_objects.LIMIT, raising=False)
    monkeypatch.setattr(stores, 'FIRST_PAUSE', .01)
    monkeypatch.setattr(stores, 'LONGEST_PAUSE', .05)
    monkeypatch.setattr(stores, '_logged', [float('-inf')])
    monkeypatch.setattr(kept_objects, '_without', [])
    parquet_shards._kept.clear()
    stores.take_retried()
    S3FileSystem.clear_instance_cache()  # they are of another environment
    return tmp_path / 'cache/mmfd/objects'


@pytest.fixture
def images():
    return jpegs(40)


@pytest.fixture
def store(tmp_path, images):
    write_tars(tmp_path / 'files', images, 16)
    write_parquets(tmp_path / 'files', images, 16)
    with FaultyStore(tmp_path / 'files') as store:
        yield store


@pytest.fixture(scope='module')
def s3():
    server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
    server.start()
    yield 'http://{}:{}'.format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(s3, tmp_path, images, monkeypatch):
    """A bucket with tars and Parquet files."""
    monkeypatch.setenv('AWS_ENDPOINT_URL', s3)
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', 'us')
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', SECRET)
    monkeypatch.setenv('AWS_DEFAULT_REGION', 'us-east-1')
    fs = fsspec.filesystem('s3')
    name = re.sub('[^a-z0-9]', '-', tmp_path.name.lower())
    fs.mkdir(name)
    fs.put(
        str(write_tars(tmp_path / 'tars', images, 16)),
        f'{name}/data/tars',
        recursive=True)
    fs.put(
        str(write_parquets(tmp_path / 'parquets', images, 16)),
        f'{name}/data/parquets',
        recursive=True)
    return f's3://{name}'


def data_of(root, split='train', held_out=0., **kwargs):
    return ImageFolder(str(root), split, LOAD, held_out=held_out, **kwargs)


def pixels(data, index):
    sample = data[index]
    assert not sample['data_samples'].get('skipped')
    return np.asarray(sample['inputs'])


def equal(data, local):
    assert len(data) == len(local) > 0
    order = [*map(int, ResumableSampler(local, seed=1))]
    assert order == [*map(int, ResumableSampler(data, seed=1))]
    for i in order:
        np.testing.assert_array_equal(pixels(data, i), pixels(local, i))


@pytest.mark.parametrize('cache', [None, '1'])
@pytest.mark.parametrize('suffix', ['tar', 'parquet'])
def test_shards_of_a_web_server_have_the_pixels_of_local_ones(
        store, suffix, cache, monkeypatch, quick):
    if cache:
        monkeypatch.setenv(kept_objects.LIMIT, cache)
    pattern = f'{{0000..0002}}.{suffix}'
    equal(
        data_of(f'{store.address}/{pattern}'),
        data_of(f'{store.folder}/{pattern}'))
    assert len([*quick.glob('*')]) == (4 if cache else 0)  # and the lock


@pytest.mark.parametrize('kind', ['tars', 'parquets'])
def test_shards_of_a_bucket_have_the_pixels_of_local_ones(
        bucket, tmp_path, kind):
    local = data_of(tmp_path / kind)
    suffix = kind[:-1]
    equal(data_of(f'{bucket}/data/{kind}'), local)
    equal(data_of(f'{bucket}/data/{kind}/*.{suffix}'), local)
    equal(data_of(f'{bucket}/data/{kind}/{{0000..0002}}.{suffix}'), local)


def test_forked_workers_read_a_bucket_after_their_parent_did(bucket, tmp_path):
    data, local = data_of(f'{bucket}/data/tars'), data_of(tmp_path / 'tars')
    pixels(data, 0)  # so this process has connections and a thread
    loader = DataLoader(data, 10, num_workers=2, collate_fn=list)
    samples = [sample for batch in loader for sample in batch]
    assert len(samples) == 40
    for i, sample in enumerate(samples):
        np.testing.assert_array_equal(
            np.asarray(sample['inputs']), pixels(local, i))


def test_shards_of_any_store_of_fsspec_have_the_pixels_of_local_ones(
        tmp_path, images):
    local = write_tars(tmp_path / 'tars', images, 16)
    fs = fsspec.filesystem('memory')
    fs.put(str(local), f'/{tmp_path.name}', recursive=True)
    root = f'memory://{tmp_path.name}'
    equal(data_of(root), data_of(local))
    data = data_of(root)
    fs.pipe(f'/{tmp_path.name}/0000.tar', fs.cat(f'/{tmp_path.name}/0000.tar'))
    with pytest.raises(BrokenImage, match='has changed since it was listed'):
        data.images[0]['img_path'].content(print)


def test_headers_of_a_tar_are_read_in_blocks(store):
    data_of(f'{store.address}/0000.tar')
    assert sum(store.served.values()) == 2  # its stamp, and all of it
    before = store.served.copy()
    data_of(f'{store.address}/0000.tar')  # as the table has it
    assert [*(store.served - before).values()] == [1]


def test_an_image_is_one_request(store):
    data = data_of(f'{store.address}/0000.tar')
    before = store.served.copy()
    pixels(data, 3)
    assert [*(store.served - before).values()] == [1]


# --- faults ---


@pytest.mark.parametrize('kind, workers, cache, patience', [
    ('http', 0, '0', 30),
    ('http', 2, '1', .2),
    ('s3', 2, '0', .2),
    ('s3', 0, '1', 30),
])
def test_an_epoch_over_a_faulty_store_has_each_image_once(
        store, kind, workers, cache, patience, monkeypatch):
    monkeypatch.setenv(kept_objects.LIMIT, cache)
    monkeypatch.setattr(object_stores, 'SILENT', patience)
    monkeypatch.setenv('AWS_ENDPOINT_URL', store.address)
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', 'us')
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', SECRET)
    store.share = .4
    root = store.address if kind == 'http' else 's3://bucket'
    data = data_of(f'{root}/{{0000..0002}}.tar')
    local = data_of(f'{store.folder}/{{0000..0002}}.tar')
    stores.take_retried()
    store.faults.clear()
    loader = DataLoader(
        data,
        4,
        sampler=ResumableSampler(data, seed=2),
        num_workers=workers,
        collate_fn=list)
    begun, seen, retried = time.monotonic(), Counter(), Counter()
    for sample in (sample for batch in loader for sample in batch):
        path = sample['data_samples'].img_path
        assert not sample['data_samples'].skipped
        retried.update(sample['data_samples'].get('retried', {}))
        seen[path] += 1
        shard, number = re.search(r'(\d+).tar/image ([\d,]+)$', path).groups()
        np.testing.assert_array_equal(
            np.asarray(sample['inputs']),
            pixels(local,
                   int(shard) * 16 + int(number)))
    assert len(seen) == 40 and {*seen.values()} == {1}
    # aiohttp itself asks again where a connection that was kept is hung up
    quiet = store.faults['hang up']
    if patience > SLOW:
        quiet += store.faults['slow']
    noticed = sum(store.faults.values())
    assert noticed - quiet <= sum(retried.values()) <= noticed
    if cache == '0':
        assert {'the store answers 500',
                'the store answers 503'} <= retried.keys()
        assert ('no answer in time' in retried) == (patience < SLOW)
    assert time.monotonic() - begun < 60


def test_a_run_over_a_faulty_store_finishes_and_lists_what_it_asked_again(
        store, tmp_path):
    store.share = .2
    log = command('train', 'configs/demo/simclr_fd.py', '--verbose',
                  '--data-root', f'{store.address}/{{0000..0002}}.tar',
                  '--work-dir', tmp_path / 'run', '--cfg-options',
                  'train_cfg.max_epochs=1', 'train_dataloader.batch_size=12',
                  'train_dataloader.num_workers=2',
                  'train_dataloader.dataset.held_out=0.1',
                  'val_dataloader.dataset.held_out=0.1',
                  'val_dataloader.num_workers=0',
                  'val_dataloader.persistent_workers=False')
    assert (tmp_path / 'run/epoch_1.pth').exists()
    assert not (tmp_path / 'run/skipped_images.txt').exists()
    assert re.search(
        r'object stores were asked again \d+ times in this epoch: \d+ x ', log)
    reads = [  # but of stamps, of whole shards, and of headers at their end
        times for (_, first, last), times in store.served.items()
        if 512 < last - first < 5000
    ]
    assert len(reads) == 40
    assert sum(times == 1 for times in reads) == 36  # the others are held out


@pytest.mark.parametrize('suffix', ['tar', 'parquet'])
def test_an_object_that_changed_gives_no_pixels(store, suffix):
    data = data_of(f'{store.address}/{{0000..0002}}.{suffix}')
    path = store.folder / f'0001.{suffix}'
    path.write_bytes(path.read_bytes())  # of equal bytes, even
    with pytest.raises(BrokenImage, match='0001.* has changed since it was'):
        data.images[20]['img_path'].content(print)
    [(skipped, reason)] = {*data[20]['data_samples'].skipped}
    assert '0001.' in skipped and 'has changed since it was listed' in reason
    pixels(data, 0)
    pixels(data_of(f'{store.address}/{{0000..0002}}.{suffix}'), 20)


def test_a_store_that_is_away_is_waited_for(store, monkeypatch):
    monkeypatch.setattr(stores, 'PATIENCE', .1)
    data = data_of(f'{store.address}/{{0000..0002}}.tar', max_wait=.5)
    for status, words in (503, 'answers 503'), (403, r'refuses access .403.'):
        store.answers = {f'000{i}.tar': status for i in range(3)}
        with pytest.raises(
                Refused,
                match=r'away for 0.5 s \(.*0000.tar: the store ' + words +
                '.*: mount .* reach their store'):
            data[0]
    store.answers = {'0002.tar': 403}  # one alone
    assert 'refuses' in data[35]['data_samples'].skipped[0][1]
    store.answers = {'0000.tar': 404}  # gone for ever
    sample = data[1]
    assert 'no such object' in sample['data_samples'].skipped[0][1]


def test_a_shard_that_its_store_gives_nothing_of_ends_the_listing(
        store, monkeypatch):
    monkeypatch.setattr(stores, 'PATIENCE', .1)
    words = {
        500: 'the store answers 500',
        404: 'there is no such object',
        403: 'the store refuses access .403. with the credentials in the env'
    }
    for status in words:
        store.answers = {'0001.parquet': status}
        with pytest.raises(
                Refused, match=f'cannot read .*0001.*: {words[status]}'):
            data_of(f'{store.address}/{{0000..0002}}.parquet')


def test_a_server_without_parts_is_refused(store):
    store.parts = False
    with pytest.raises(Refused, match='whole files alone, not their parts'):
        data_of(f'{store.address}/0000.tar')


def test_empty_and_unknown_objects_are_said(store, bucket, warned):
    (store.folder / '0009.tar').touch()
    fsspec.filesystem('s3').pipe(f'{bucket[5:]}/empty.tar', b'')
    for root in f'{store.address}/0009.tar', f'{bucket}/empty.tar':
        with pytest.raises(Refused, match=f'no images in {root}'):
            data_of(root)
    for root in (f'{bucket}/nothing', f'{bucket}/nothing/*.tar',
                 's3://no-such-bucket/x', f'{bucket}/nothing.tar'):
        with pytest.raises(Refused, match='no images in|no shards|cannot'):
            data_of(root)
    with pytest.raises(Refused, match='a web server lists no files'):
        data_of(store.address)


def test_images_that_are_objects_are_counted_and_refused(bucket):
    fs = fsspec.filesystem('s3')
    for name in 'photos/a/1.jpg', 'photos/a/2.png', 'photos/.x/3.jpg':
        fs.pipe(f'{bucket[5:]}/{name}', b'x')
    with pytest.raises(
            Refused,
            match=f'{bucket}/photos has 2 images as objec'
            r'ts of their own .a/1.jpg.*put them into shards'):
        data_of(f'{bucket}/photos')


# --- the cache ---


def test_the_cache_keeps_its_bound_and_what_was_used_last(
        store, monkeypatch, quick):
    sizes = [(store.folder / f'000{i}.tar').stat().st_size for i in range(3)]
    monkeypatch.setenv(kept_objects.LIMIT, str((sum(sizes[:2]) + 10) / 1e9))
    monkeypatch.setattr(kept_objects, 'USED', -1.)
    data = data_of(f'{store.address}/{{0000..0002}}.tar')

    def kept():
        files = [f for f in quick.iterdir() if f.name != kept_objects.LOCK]
        assert sum(f.stat().st_size for f in files) <= sum(sizes[:2]) + 10
        return sorted(f.stat().st_size for f in files)

    for index, expected in (0, {0}), (16, {0, 1}), (0, {0, 1}), (32, {0, 2}):
        pixels(data, index)
        assert kept() == sorted(sizes[i] for i in expected)
        time.sleep(.02)
    before = sum(store.served.values())
    pixels(data, 1), pixels(data, 33)
    assert sum(store.served.values()) == before
    part = quick / 'someone.0.part'
    part.write_bytes(b'x' * sizes[0])  # being fetched
    pixels(data, 20)
    assert sizes[1] in kept() and part.exists()
    os.utime(part, (time.time() - 2 * kept_objects.ABANDONED, ) * 2)
    pixels(data, 0)
    assert sizes[0] in kept() and not part.exists()


def test_a_full_disk_is_said_once_and_the_run_goes_on(store, monkeypatch,
                                                      quick, warned):
    monkeypatch.setenv(kept_objects.LIMIT, '1')
    data = data_of(f'{store.address}/{{0000..0002}}.tar')
    local = data_of(f'{store.folder}/{{0000..0002}}.tar')

    warned.clear()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))  # bytes a file
    try:
        equal(data, local)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [line] = warned
    assert 'File too large. They are read from their store each time' in line
    assert [f.name for f in quick.iterdir()] == [kept_objects.LOCK]


def test_a_cut_fetch_leaves_nothing_behind(store, monkeypatch, quick):
    monkeypatch.setenv(kept_objects.LIMIT, '1')
    monkeypatch.setattr(kept_objects, 'PIECE', 3000)
    monkeypatch.setattr(stores, 'PATIENCE', .05)
    data = data_of(f'{store.address}/0000.tar', max_wait=0)
    store.share = 1.
    with pytest.raises((Refused, OSError)):
        data.images[0]['img_path'].content(print)
    assert [f.name for f in quick.iterdir()] == [kept_objects.LOCK]
    store.share = 0.
    pixels(data, 0)
    assert len([*quick.iterdir()]) == 2


def test_a_bound_that_is_no_number_is_refused(store, monkeypatch):
    for text in 'much', '-1', 'nan', 'inf':
        monkeypatch.setenv(kept_objects.LIMIT, text)
        with pytest.raises(Refused, match=f'MMFD_CACHE_GB={text}: expected'):
            data_of(f'{store.address}/0000.tar')


# --- secrets ---


@pytest.mark.parametrize('address', [
    f'https://me:{SECRET}@host.org/a/0.tar',
    f'https://host.org/a/0.tar?X-Amz-Signature={SECRET}',
    f's3://me:{SECRET}@host.org/a/0.tar',
    f'https://host.org/a/0.tar#{SECRET}',
])
def test_a_secret_in_an_address_is_refused_and_not_shown(address, caplog):
    for use in check_root, data_of:
        with pytest.raises(Refused, match='credentials into the') as raised:
            use(address)
        assert '://host.org/a/0.tar' in str(raised.value)
        assert SECRET not in str(raised.value) + caplog.text


def test_a_secret_in_a_config_is_not_written_or_logged(tmp_path):
    log = refused(
        'train', 'configs/demo/simclr_fd.py', '--work-dir', tmp_path / 'run',
        '--cfg-options', 'train_dataloader.dataset.data_root='
        f'https://host.org/0.tar?sig={SECRET}')
    assert 'put credentials into the environment' in log
    found = [f for f in tmp_path.rglob('*') if f.is_file()]
    assert not [f for f in found if SECRET.encode() in f.read_bytes()]
    assert SECRET not in log


def test_credentials_of_the_environment_are_used_and_not_shown(
        store, monkeypatch, caplog):
    store.headers = {'Authorization': f'Bearer {SECRET}'}
    root = f'{store.address}/0000.tar'
    with pytest.raises(Refused, match='the store refuses access .403.'):
        data_of(root)
    monkeypatch.setitem(fsspec.config.conf, 'http',
                        dict(client_kwargs=dict(headers=dict(store.headers))))
    data = data_of(root)
    pixels(data, 0)
    assert SECRET not in caplog.text + data.source
    assert SECRET.encode() not in pickle.dumps(data.images)


def test_a_bucket_that_refuses_is_one_message(bucket, monkeypatch):
    """No key at all, and a server that gives nothing to strangers."""
    monkeypatch.setenv('AWS_EC2_METADATA_DISABLED', 'true')
    for name in 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY':
        monkeypatch.delenv(name)
    monkeypatch.setenv('AWS_SHARED_CREDENTIALS_FILE', os.devnull)
    S3FileSystem.clear_instance_cache()
    for root in f'{bucket}/data/tars', f'{bucket}/data/tars/0000.tar':
        with pytest.raises(Refused, match='the store refuses access .403.'):
            data_of(root)


READ = '''
import sys
from mmfd.data.image_folder import ImageFolder
print(len(ImageFolder(sys.argv[1], 'train', [], held_out=0.)))
'''


def test_a_certificate_that_is_not_trusted_is_one_message(store, tmp_path):
    file = write_certificate(tmp_path / 'certificate.pem')
    with FaultyStore(store.folder, certificate=file) as secure:
        root = f'{secure.address}/0000.tar'
        with pytest.raises(
                Refused,
                match='not trusted; SSL_CERT_FILE, for s3 '
                'AWS_CA_BUNDLE, names a file'):
            data_of(root)
        assert not stores.take_retried()
        # Python reads the file when it begins
        ended = subprocess.run([sys.executable, '-c', READ, root],
                               env={
                                   **os.environ, 'SSL_CERT_FILE': str(file)
                               },
                               check=True,
                               stdout=subprocess.PIPE)
        assert ended.stdout == b'16\n'


def test_what_is_missing_or_unknown_is_named(monkeypatch):
    with pytest.raises(Refused, match='gs:// .*: pip install fsspec gcsfs'):
        data_of('gs://bucket/0000.tar')
    with pytest.raises(Refused, match='ftp:// addresses are not read: expec'):
        check_root('ftp://host/0000.tar')


def test_errors_that_may_pass_are_told_from_others():
    passing = [s for s in range(400, 600) if object_stores._answered(s).passes]
    assert passing == [408, 409, 425, 429, *range(500, 600)]
    with pytest.raises(ZeroDivisionError):  # a mistake of ours
        object_stores._asked(lambda: 1 / 0)


def test_an_object_is_sent_to_other_processes_with_its_stamp(store):
    image = data_of(f'{store.address}/0000.tar').images[5]['img_path']
    there = pickle.loads(pickle.dumps(image))
    assert there.file.stamp == image.file.stamp
    assert there.content(print) == image.content(print)


def test_local_shards_ask_no_store(tmp_path):
    path = write_tar(tmp_path / 'a.tar', jpegs(3))
    assert type(stores.located(tmp_path, 'a.tar', [0, 0])) is str
    assert not isinstance(
        data_of(path).images[0]['img_path'].file, stores.Object)
