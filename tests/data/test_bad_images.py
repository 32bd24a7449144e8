"""A crawl is trained on without a babysitter: what is good of it is used."""
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image

from mmfd.data.image_folder import BrokenImage, LoadImage


def noise(size=(40, 32), mode='RGB', seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def cut(path):
    noise().save(path)
    path.write_bytes(path.read_bytes()[:-400])


def declared(width, height):
    """A PNG of a few bytes that says it is of that size."""

    def write(path):
        Image.new('1', (1, 1)).save(path)
        data = bytearray(path.read_bytes())
        data[16:24] = width.to_bytes(4, 'big') + height.to_bytes(4, 'big')
        data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, 'big')
        path.write_bytes(data)

    return write


def rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise().save(path, exif=exif)


def sixteen(path):
    Image.fromarray(np.arange(960, dtype=np.uint16).reshape(30, 32)).save(path)


def other_name(path):
    noise().save(path.with_suffix('.png'))
    path.with_suffix('.png').rename(
        path.with_name('caf%s.jpg' %
                       os.fsdecode(b'\xe9' + path.stem.encode())))


GOOD = {
    'plain.jpg':
    lambda p: noise().save(p),
    'cmyk.jpg':
    lambda p: noise(mode='CMYK').save(p),
    'grey.png':
    lambda p: noise(mode='L').save(p),
    'sixteen.png':
    sixteen,
    'alpha.png':
    lambda p: noise(mode='RGBA').save(p),
    'grey_alpha.png':
    lambda p: noise(mode='LA').save(p),
    'palette.png':
    lambda p: noise(mode='P').save(p),
    'bits.png':
    lambda p: noise(mode='1').save(p),
    'animated.gif':
    lambda p: noise().save(p, save_all=True, append_images=[noise(seed=1)]),
    'animated.webp':
    lambda p: noise().save(p, save_all=True, append_images=[noise(seed=1)]),
    'pixel.png':
    lambda p: noise((1, 1)).save(p),
    'line.png':
    lambda p: noise((1, 500)).save(p),
    'rotated.jpg':
    rotated,
    'png_called.jpg':
    lambda p: noise().save(p, format='PNG'),
    'not_utf8.jpg':
    other_name,
}
BAD = {
    'empty.jpg': lambda p: p.touch(),
    'truncated.jpg': cut,
    'truncated.webp': cut,
    'text.jpg': lambda p: p.write_text('a picture of a dog'),
    'page.png': lambda p: p.write_text('<html>403</html>'),
    'bomb.png': declared(20_000, 20_000),
    'wide_bomb.png': declared(2**31 - 1, 2**31 - 1),
    'postscript.jpg': lambda p: noise().save(p, format='EPS'),
    'icon.png': lambda p: noise().save(p, format='ICO'),
    'empty_pixels.ppm': lambda p: p.write_bytes(b'P6 0 0 255\n'),
    'loop.jpg': lambda p: p.symlink_to(p),
    'nowhere.jpg': lambda p: p.symlink_to('gone.jpg'),
    'zeros.jpg': lambda p: p.symlink_to('/dev/zero'),
    'huge.jpg': lambda p: (p.touch(), os.truncate(p, 1 << 40)),
    'locked.jpg': lambda p: (noise().save(p), p.chmod(0)),
}
LATER = 'vanishing.jpg'  # is there when the run starts


def crawl(root, plain, each):
    """A folder with plain images and so many of each kind; the bad ones."""
    root.mkdir()
    for i in range(plain):
        noise(seed=i).save(root / f'{i}.png')
    (root / 'up').symlink_to(root)
    os.mkfifo(root / 'pipe.jpg')  # is left out
    bad = set()
    for i in range(each):
        folder = root / f'kind_{i}'
        folder.mkdir()
        for name, make in {**GOOD, **BAD, LATER: GOOD['plain.jpg']}.items():
            make(folder / name)
        bad |= {str(folder / name) for name in (*BAD, LATER)}
    return bad


# As root no file is locked; as root without these two rights it is.
RIGHTS = ['setpriv', '--bounding-set', '-dac_override,-dac_read_search']
BY_RIGHTS = [] if os.getuid() else RIGHTS
needs_rights = pytest.mark.skipif(
    bool(BY_RIGHTS) and not shutil.which('setpriv'), reason='no setpriv')


def train(root, run, *options, meanwhile=lambda: None):
    """Train on a folder; (exit status, log)."""
    log = run.with_suffix('.txt')
    with open(log, 'w') as file:
        process = subprocess.Popen([
            *BY_RIGHTS, sys.executable, 'tools/train.py',
            'configs/demo/simclr_fd.py', '--data-root',
            str(root), '--work-dir',
            str(run), '--cfg-options', 'train_dataloader.batch_size=10',
            'train_dataloader.num_workers=1',
            'train_dataloader.persistent_workers=False',
            'val_dataloader.num_workers=0',
            'val_dataloader.persistent_workers=False',
            'default_hooks.logger.interval=1', *options
        ],
                                   stdout=file,
                                   stderr=subprocess.STDOUT)
        while process.poll() is None and not re.search(
                r'Epoch\(train\) +\[1\]', log.read_text()):
            time.sleep(0.1)
        meanwhile()
        status = process.wait(timeout=600)
    return status, log.read_text()


@needs_rights
@pytest.mark.parametrize('plain, each', [
    (30, 1),
    pytest.param(300, 30, marks=pytest.mark.full),
])
def test_run_over_a_crawl_uses_what_is_good_and_reports_the_rest(
        tmp_path, plain, each):
    """In its long form a tenth of the plain images of each kind."""
    root, run = tmp_path / 'images', tmp_path / 'run'
    bad = crawl(root, plain, each)

    def vanish():
        for path in root.glob(f'*/{LATER}'):
            path.unlink()

    status, log = train(
        root,
        run,
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=2',
        'default_hooks.skipped.limit=0.9',
        meanwhile=vanish)
    assert status == 0, log[-3000:]
    report = (run / 'skipped_images.txt').read_text().splitlines()
    assert {line.split('\t')[0] for line in report} == bad
    *_, last = re.findall(r'(\d+) images could not be read.*: (.*); all', log)
    assert int(last[0]) == len(bad)
    assert ' x No such file' in last[1] and ' x Permission' in last[1]
    assert (run / 'epoch_2.pth').exists()


@needs_rights
def test_folder_that_is_mostly_bad_ends_the_run(tmp_path):
    root, run = tmp_path / 'images', tmp_path / 'run'
    crawl(root, plain=30, each=1)
    status, log = train(root, run)
    assert status == 1
    assert re.search(
        r'error: \d+ of \d+ images could not be read, more than the share of '
        r'0.1 that mmfd.SkippedImagesHook\(limit=...\) allows',
        log), log[-3000:]


def test_every_good_image_of_a_crawl_is_the_one_that_is_asked_for(tmp_path):
    crawl(tmp_path / 'images', plain=5, each=1)
    pipeline = [
        dict(type='mmfd.LoadImage'),
        dict(type='mmpretrain.RandomResizedCrop', scale=16, backend='pillow'),
        dict(type='mmpretrain.PackInputs', meta_keys=('img_path', ))
    ]
    dataset = DATASETS.build(
        dict(
            type='mmfd.ImageFolder',
            data_root=str(tmp_path / 'images'),
            split='train',
            held_out=0,
            pipeline=pipeline))
    used = set()
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        if sample.img_path == dataset.get_data_info(i)['img_path']:
            used.add(sample.img_path)
    kinds = {Path(path).name for path in used}
    good = {name for name in GOOD if name != 'not_utf8.jpg'}
    assert good <= kinds and len(used) >= 5 + len(GOOD)
    assert any('\udce9' in name for name in kinds)
    assert not kinds & (BAD.keys() - {'locked.jpg'})  # to root it is not


@pytest.mark.parametrize('name', sorted(BAD.keys() - {'locked.jpg'}))
def test_bad_image_is_refused_within_a_second_and_fifty_megabytes(
        tmp_path, name):
    BAD[name](tmp_path / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenImage):
        LoadImage()(dict(img_path=str(tmp_path / name)))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 50 << 10  # kilobytes


def test_size_of_an_image_has_a_limit_that_a_config_raises(
        tmp_path, monkeypatch):
    """Pillow's own limit would warn at so many pixels and fail at twice."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    noise().save(tmp_path / 'a.png')
    results = dict(img_path=str(tmp_path / 'a.png'))
    with pytest.raises(
            BrokenImage,
            match='it has 32 x 40 pixels; max_pixels=1,279 of mmfd.LoadImage'):
        LoadImage(max_pixels=1279)(results)
    assert LoadImage(max_pixels=1280)(results)['img'].shape == (40, 32, 3)


@pytest.mark.full
def test_largest_image_takes_eleven_bytes_a_pixel(tmp_path):
    Image.new('1', (10_000, 10_000)).save(tmp_path / 'a.png')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = LoadImage()(dict(img_path=str(tmp_path / 'a.png')))['img']
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert image.shape == (10_000, 10_000, 3)
    assert after - before < 11.5 * 10**8 / 1024  # kilobytes
