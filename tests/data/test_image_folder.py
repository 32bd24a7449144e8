"""Folders of images: what is found, read, skipped and remembered."""
import json
import logging
import os
import re
import resource
import stat
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.structures import BaseDataElement
from PIL import Image

from mmfd.data import scan
from mmfd.data.image_folder import BrokenImage, LoadImage
from mmfd.errors import Refused
from mmfd.registry import HOOKS

PIPELINE = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=16),
    dict(type='mmpretrain.PackInputs'),
]


def folder(root, split='train', **kwargs):
    return DATASETS.build(
        dict(
            type='mmfd.ImageFolder',
            data_root=root if isinstance(root, list) else str(root),
            split=split,
            pipeline=PIPELINE,
            **kwargs))


def draw(path, value=100, size=(8, 12), **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (value, value, value)).save(path, **kwargs)


def read(path):
    return LoadImage()(dict(img_path=str(path)))['img']


def paths(dataset):
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'mmfd' / 'scans'


# --- reading: any mode, and what is broken ---


def gradient():
    return np.linspace(0, 255, 12 * 8).reshape(12, 8).astype(np.uint8)


def test_colour_comes_as_bgr_bytes_as_opencv_reads_it(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (12, 8, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'a.png')
    assert np.array_equal(read(tmp_path / 'a.png'), image[..., ::-1])
    assert np.array_equal(
        read(tmp_path / 'a.png'), cv2.imread(str(tmp_path / 'a.png')))


def test_every_mode_becomes_the_same_grey(tmp_path):
    """Eight modes of one picture; CMYK rounds twice on its way."""
    grey = gradient()
    image = Image.fromarray(grey)
    alpha = image.convert('RGBA')
    alpha.putalpha(7)
    faces = dict(
        grey=image,
        grey_alpha=image.convert('LA'),
        colour=image.convert('RGB'),
        alpha=alpha,
        palette=image.convert('RGB').quantize(96),
        sixteen=Image.fromarray(grey.astype(np.uint16) * 257),
        thirty_two=Image.fromarray(grey.astype(np.int32) * 257),
        cmyk=image.convert('RGB').convert('CMYK'))
    for name, face in faces.items():
        path = tmp_path / f'{name}.{"tif" if face.mode == "CMYK" else "png"}'
        if name == 'thirty_two':
            path = path.with_suffix('.tif')
        face.save(path)
        found = read(path).astype(int)
        assert found.shape == (12, 8, 3), name
        assert abs(found - grey[..., None]).max() <= 2, name


def test_picture_of_one_bit_is_black_and_white(tmp_path):
    Image.fromarray(gradient()).convert('1').save(tmp_path / 'a.png')
    assert set(np.unique(read(tmp_path / 'a.png'))) == {0, 255}


def test_picture_taken_sideways_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    Image.fromarray(gradient()).save(tmp_path / 'a.png', exif=exif)
    assert np.array_equal(
        read(tmp_path / 'a.png')[..., 0], np.rot90(gradient(), -1))


def test_first_frame_stands_for_an_animation(tmp_path):
    frames = [Image.new('RGB', (8, 8), (v, 0, 0)) for v in (255, 9)]
    for suffix in 'webp', 'gif':
        path = tmp_path / f'a.{suffix}'
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert abs(read(path)[..., 2].astype(int) - 255).max() < 4


def truncated(path, share=0.6):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(image).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(share * len(whole))])


def flipped_bit(path):
    Image.fromarray(gradient()).save(path)
    data = bytearray(path.read_bytes())
    data[data.index(b'IDAT') + 12] ^= 255
    path.write_bytes(data)


def bomb(path):
    """A PNG of a few bytes that says it is 30,000 pixels wide and high."""
    Image.new('1', (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (30000).to_bytes(4, 'big') * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, 'big')
    path.write_bytes(data)


def zipped(path):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a.txt', 'b')


BROKEN = {  # ten ways
    'empty.jpg': lambda path: path.write_bytes(b''),
    'text.jpg': lambda path: path.write_text('not an image'),
    'page.png': lambda path: path.write_text('<html>404</html>'),
    'truncated.jpg': truncated,
    'truncated.png': truncated,
    'truncated.webp': truncated,
    'header.jpg': lambda path: path.write_bytes(b'\xff\xd8\xff' + bytes(9)),
    'flipped.png': flipped_bit,
    'bomb.png': bomb,
    'link.jpg': lambda path: path.symlink_to('nowhere.jpg'),
}


@pytest.mark.parametrize('name', [*BROKEN, 'archive.png', 'float.tif'])
def test_broken_file_is_refused_with_a_reason(tmp_path, name):
    path = tmp_path / name
    makers = dict(
        BROKEN, **{
            'archive.png': zipped,
            'float.tif': lambda p: Image.new('F', (4, 4)).save(p)
        })
    makers[name](path)
    with pytest.raises(BrokenImage) as refused:
        read(path)
    assert len(str(refused.value)) > 8 and '0x' not in str(refused.value)


def test_right_image_with_the_wrong_suffix_is_read(tmp_path):
    draw(tmp_path / 'a.png', 50)
    (tmp_path / 'a.png').rename(tmp_path / 'a.jpg')
    assert (read(tmp_path / 'a.jpg') == 50).all()


# --- finding: layouts, splits, labels ---


def test_nested_mixed_folder_needs_no_list_and_no_labels(tmp_path):
    names = ('a.jpg', 'deep/er/b.JPEG', 'deep/c.png', 'd.webp', 'ü/e.bmp')
    for name in names:
        draw(tmp_path / name)
    for name in ('notes.txt', '._a.jpg', '.cache/x.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('')
    train, val = folder(tmp_path), folder(tmp_path, 'val')
    found = paths(train) + paths(val)
    assert sorted(found) == sorted(str(tmp_path / name) for name in names)
    assert len(val) == 1
    assert 'gt_label' not in train[0]['data_samples']
    assert train[0]['inputs'].shape == (3, 16, 16)


def test_imagenet_tree_has_its_own_splits_and_labels(shapes_root):
    root = shapes_root / 'imagenet'
    train, val = folder(root), folder(root, 'val')
    assert (len(train), len(val)) == (120, 30)
    assert train.metainfo['classes'] == val.metainfo['classes']
    for i in 0, 50, 119:
        sample = train[i]['data_samples']
        name = train.metainfo['classes'][sample.gt_label.item()]
        assert f'/train/{name}/' in sample.img_path


def test_validation_images_outside_class_folders_have_no_labels(tmp_path):
    draw(tmp_path / 'train/cat/a.jpg')
    draw(tmp_path / 'val/b.jpg')  # as ImageNet's archive unpacks
    assert 'gt_label' not in folder(tmp_path, 'val')[0]['data_samples']
    with pytest.raises(ValueError, match='b.jpg lies in no class folder'):
        folder(tmp_path, 'val', with_label=True)


def test_labels_agree_between_splits_of_different_classes(tmp_path):
    for name in 'train/bee', 'train/cow', 'val/ant', 'val/cow':
        draw(tmp_path / name / 'x.jpg')
    numbers = {
        Path(d['img_path']).parent.name: d['gt_label']
        for split in ('train', 'val')
        for d in [folder(tmp_path, split).get_data_info(i) for i in (0, 1)]
    }
    assert numbers == dict(ant=0, bee=1, cow=2)


def test_several_roots_are_one_set(tmp_path):
    for root in 'a', 'b':
        for i in range(10):
            draw(tmp_path / root / f'{i}.png')
    both = folder([str(tmp_path / 'a'), str(tmp_path / 'b')])
    assert len(both) == 18  # one of each root is held out
    assert {Path(p).parent.name for p in paths(both)} == {'a', 'b'}


def test_held_out_images_are_disjoint_stable_and_of_the_asked_share(tmp_path):
    for i in range(200):
        (tmp_path / f'{i}.jpg').touch()
    train, val = (
        set(paths(folder(tmp_path, s, held_out=0.1)))
        for s in ('train', 'val'))
    assert len(val) == 20 and len(train) == 180 and not train & val
    for i in range(200, 210):
        (tmp_path / f'{i}.jpg').touch()
    later = set(paths(folder(tmp_path, 'val', held_out=0.1)))
    assert len(later & val) >= 18  # most stay


def test_nothing_held_out_leaves_nothing_to_test_on(tmp_path):
    draw(tmp_path / 'a.jpg')
    assert len(folder(tmp_path, held_out=0)) == 1
    with pytest.raises(ValueError, match='held_out=0 .* leaves no image'):
        folder(tmp_path, 'val', held_out=0)


def test_loop_of_links_ends(tmp_path):
    draw(tmp_path / 'a/b/x.jpg')
    (tmp_path / 'a/b/up').symlink_to(tmp_path / 'a')
    (tmp_path / 'a/side').symlink_to(tmp_path / 'a/b')
    assert scan.find_images(tmp_path) == ['a/b/x.jpg', 'a/side/x.jpg']


def test_link_to_itself_is_one_broken_image_among_good_ones(tmp_path):
    draw(tmp_path / 'a.jpg')
    (tmp_path / 'b.jpg').symlink_to(tmp_path / 'b.jpg')
    (tmp_path / 'c').symlink_to(tmp_path / 'c')
    assert scan.find_images(tmp_path) == ['a.jpg', 'b.jpg']
    with pytest.raises(BrokenImage, match='Too many levels of symbolic'):
        read(tmp_path / 'b.jpg')


def test_name_that_is_no_utf8_is_found_and_read(tmp_path):
    name = os.fsdecode(b'caf\xe9.png')
    draw(tmp_path / 'a.png')
    (tmp_path / 'a.png').rename(tmp_path / name)
    assert scan.find_images(tmp_path) == [name]
    assert (read(tmp_path / name) == 100).all()


@pytest.mark.parametrize('make, message', [
    (lambda path: None, 'no image folder .*--data-root'),
    (lambda path: path.mkdir(), 'no images in .*looked for .jpg'),
])
def test_folder_without_images_is_refused(tmp_path, make, message):
    make(tmp_path / 'images')
    with pytest.raises(Refused, match=message):
        folder(tmp_path / 'images')


AS_NOBODY = '''
import os, sys
from mmfd.data.scan import find_images
os.setgid(65534), os.setuid(65534)
try:
    find_images(sys.argv[1])
except OSError as error:
    print(error)
'''


@pytest.mark.skipif(os.getuid() != 0, reason='only root can become nobody')
@pytest.mark.parametrize('locked', ['', 'deep'])
def test_folder_without_the_right_to_read_is_one_message(tmp_path, locked):
    draw(tmp_path / 'images/deep/a.jpg')
    for path in (tmp_path, *tmp_path.parents[:-2]):
        path.chmod(path.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    (tmp_path / 'images' / locked).chmod(0o700)
    done = subprocess.run(
        [sys.executable, '-c', AS_NOBODY, tmp_path / 'images'],
        capture_output=True,
        text=True)
    assert re.fullmatch(
        f'cannot list the image folder {tmp_path}/images/{locked}: '
        'Permission denied; grant the right .*\n', done.stdout), done


# --- remembering ---


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(scan, 'REMEMBERED', 1)
    monkeypatch.setattr(scan, 'SETTLED', -1.)


def spy_on_listing(monkeypatch):
    listed, scandir = [], os.scandir

    def listing(path):
        listed.append(os.path.basename(path))
        return scandir(path)

    monkeypatch.setattr(scan.os, 'scandir', listing)
    return listed


def test_second_scan_lists_only_the_folders_that_changed(
        tmp_path, eager, monkeypatch):
    for name in 'a/1.jpg', 'b/2.jpg', 'c/3.jpg':
        draw(tmp_path / 'images' / name)
    first = scan.find_images(tmp_path / 'images')
    listed = spy_on_listing(monkeypatch)
    assert scan.find_images(tmp_path / 'images') == first and not listed
    draw(tmp_path / 'images/b/4.jpg')
    (tmp_path / 'images/c/3.jpg').unlink()
    assert scan.find_images(tmp_path /
                            'images') == ['a/1.jpg', 'b/2.jpg', 'b/4.jpg']
    assert sorted(listed) == ['b', 'c']


def test_folder_that_was_just_written_to_is_listed_again(
        tmp_path, cache, monkeypatch):
    """Two changes within one tick of the clock leave one time behind."""
    monkeypatch.setattr(scan, 'REMEMBERED', 1)
    draw(tmp_path / 'images/1.jpg')
    scan.find_images(tmp_path / 'images')
    [file] = cache.iterdir()
    assert json.loads(file.read_text())[''] == [-1, ['1.jpg'], []]
    listed = spy_on_listing(monkeypatch)
    scan.find_images(tmp_path / 'images')
    assert listed == ['']


def test_image_unpacked_into_a_folder_with_its_old_time_is_found(
        tmp_path, eager):
    draw(tmp_path / 'images/1.jpg')
    scan.find_images(tmp_path / 'images')
    before = os.stat(tmp_path / 'images')
    draw(tmp_path / 'images/2.jpg')
    os.utime(tmp_path / 'images', ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(scan.find_images(tmp_path / 'images')) == 2


def test_remembered_link_whose_folder_has_gone_is_left_out(tmp_path, eager):
    draw(tmp_path / 'images/1.jpg')
    draw(tmp_path / 'disk/2.jpg')
    (tmp_path / 'images/linked').symlink_to(tmp_path / 'disk')
    assert len(scan.find_images(tmp_path / 'images')) == 2
    (tmp_path / 'disk').rename(tmp_path / 'unmounted')
    assert scan.find_images(tmp_path / 'images') == ['1.jpg']


def test_long_scan_says_how_far_it_is(tmp_path, monkeypatch):
    for name in 'a/1.jpg', 'b/2.jpg', 'b/c/3.jpg':
        draw(tmp_path / 'images' / name)
    said = []
    monkeypatch.setattr(scan, 'print_log', lambda *args: said.append(args[0]))
    scan.find_images(tmp_path / 'images', tell_every=0.)
    assert len(said) == 4
    assert said[-1].endswith(': 3 images in 4 folders so far')


@pytest.mark.parametrize('content', ['', '[]', '{"": 3}', '{"": [1, 2', 'x'])
def test_damaged_memory_is_made_anew(tmp_path, eager, cache, content):
    draw(tmp_path / 'images/1.jpg')
    scan.find_images(tmp_path / 'images')
    [file] = cache.iterdir()
    file.write_text(content)
    assert scan.find_images(tmp_path / 'images') == ['1.jpg']
    assert json.loads(file.read_text())['']


def test_no_room_while_remembering_is_a_warning_and_leaves_nothing(
        tmp_path, eager, cache, monkeypatch):
    draw(tmp_path / 'images/1.jpg')
    said = []
    monkeypatch.setattr(scan, 'print_log', lambda *args: said.append(args))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # bytes a file
    try:
        assert scan.find_images(tmp_path / 'images') == ['1.jpg']
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [(message, _, level)] = said
    assert level == logging.WARNING
    assert 'File too large' in message and 'XDG_CACHE_HOME' in message
    assert not list(cache.iterdir())


# --- crops ---


def crops(height, width, draws=1, **kwargs):
    """(top, left, height, width) of crops of the linear probe."""
    np.random.seed(0)
    crop = TRANSFORMS.build(dict(type='mmfd.ClampedCrop', scale=8, **kwargs))
    image = np.zeros((height, width, 3), np.uint8)
    return np.array([crop.rand_crop_params(image) for _ in range(draws)])


@pytest.mark.parametrize(
    'size, aspect, expected',
    [
        ((30, 40), 4 / 3, (30, 40)),  # the whole image
        ((30, 40), 3 / 4,
         (30, 30)),  # 40 x 30 sticks out: cut, not drawn again
        ((30, 40), 1, (30, 35)),  # the root of 1200 is 34.6
        ((10, 90), 1, (10, 30)),
    ])
def test_crop_that_sticks_out_is_cut_to_the_image(size, aspect, expected):
    one = dict(crop_ratio_range=(1, 1), aspect_ratio_range=(aspect, aspect))
    for top, left, *shape in crops(*size, draws=50, **one):
        assert tuple(shape) == expected
        assert top + expected[0] <= size[0] and left + expected[1] <= size[1]


def test_crops_have_uniform_areas_log_uniform_aspects_and_any_place():
    top, left, height, width = crops(
        400, 400, draws=20000, crop_ratio_range=(0.08, 0.5)).T
    area = height * width / 400**2  # none of these sticks out
    shares = np.quantile(area, [0, .25, .5, .75, 1])
    assert shares == pytest.approx([.08, .185, .29, .395, .5], abs=.01)
    aspect = np.quantile(np.log(width / height), [0, .25, .5, .75, 1])
    expected = np.log(4 / 3) * np.array([-1, -.5, 0, .5, 1])
    assert aspect == pytest.approx(expected, abs=.02)
    for offset, side in (top, height), (left, width):
        place = offset / (400 - side)
        assert place.min() == 0 and place.max() == 1
        assert place.mean() == pytest.approx(.5, abs=.01)


def test_crop_is_resized_to_the_size_asked_for():
    crop = TRANSFORMS.build(
        dict(
            type='mmfd.ClampedCrop',
            scale=8,
            interpolation='bicubic',
            backend='pillow'))
    image = np.full((30, 40, 3), 7, np.uint8)
    assert np.array_equal(crop(dict(img=image))['img'], image[:8, :8])


# --- skipping ---


def broken_folder(root, good=90, ways=tuple(BROKEN)):
    root.mkdir()
    for i in range(good):
        draw(root / f'{i % 3}/{i}.png', i)
    for name in ways:
        BROKEN[name](root / name)
    return root


def test_broken_image_is_replaced_by_the_same_other_one(tmp_path):
    dataset = folder(broken_folder(tmp_path / 'images'), held_out=0)
    for i in range(len(dataset)):
        sample, again = dataset[i], dataset[i]
        assert torch.equal(sample['inputs'], again['inputs'])
        name = Path(dataset.get_data_info(i)['img_path']).name
        skipped = [Path(p).name for p, _ in sample['data_samples'].skipped]
        assert (name in BROKEN) == (skipped[:1] == [name])


def test_folder_of_nothing_but_broken_images_ends(tmp_path):
    dataset = folder(broken_folder(tmp_path / 'images', good=0), held_out=0)
    with pytest.raises(ValueError, match='100 draws from 10 images gave none'):
        dataset[0]


class Run:
    """As much of a Runner as the hook asks for."""

    def __init__(self, work_dir, images=100):
        from mmengine.logging import MessageHub, MMLogger
        self.work_dir = str(work_dir)
        self.message_hub = MessageHub('skipped')
        self.logger = MMLogger('skipped')
        self.train_dataloader = torch.utils.data.DataLoader(range(images))


def batch(*skipped):
    return dict(data_samples=[
        BaseDataElement(metainfo=dict(skipped=[pair])) for pair in skipped
    ])


def test_report_names_every_broken_image_once(tmp_path):
    hook, run = HOOKS.build(dict(type='mmfd.SkippedImagesHook')), Run(tmp_path)
    odd = os.fsdecode(b'caf\xe9.jpg')
    for _ in range(2):
        hook.after_train_iter(run, 0, batch(('b.jpg', 'it is empty')), {})
        hook.after_val_iter(run, 0, batch((odd, 'it is empty')), {})
    assert run.message_hub.get_scalar('train/skipped').current() == 1
    hook.after_train_epoch(run)
    report = (tmp_path / 'skipped_images.txt').read_text().splitlines()
    assert report == ['b.jpg\tit is empty', 'caf\\udce9.jpg\tit is empty']


def test_report_keeps_what_an_earlier_part_of_the_run_has_seen(tmp_path):
    for name in 'b.jpg', 'a.jpg', 'b.jpg':
        hook = HOOKS.build(dict(type='mmfd.SkippedImagesHook'))
        hook.after_train_iter(Run(tmp_path), 0, batch((name, 'x')), {})
        hook.after_train_epoch(Run(tmp_path))
    report = (tmp_path / 'skipped_images.txt').read_text()
    assert report == 'b.jpg\tx\na.jpg\tx\n'


def test_broken_images_among_few_held_out_ones_do_not_end_the_run(tmp_path):
    hook, run = HOOKS.build(dict(type='mmfd.SkippedImagesHook')), Run(tmp_path)
    for i in range(50):
        hook.after_val_iter(run, 0, batch((str(i), 'x')), {})
    hook.after_val_epoch(run)
    assert len((tmp_path / 'skipped_images.txt').read_text().split()) == 100


def test_more_broken_images_than_the_limit_end_the_run(tmp_path):
    hook = HOOKS.build(dict(type='mmfd.SkippedImagesHook', limit=0.02))
    run = Run(tmp_path)
    hook.after_train_iter(run, 0, batch(('1', 'x'), ('2', 'x')), {})
    with pytest.raises(ValueError, match='3 of 100 .* share of 0.02'):
        hook.after_train_iter(run, 1, batch(('3', 'x')), {})
    assert len((tmp_path / 'skipped_images.txt').read_text().split()) == 6


def test_limit_counts_the_images_of_all_processes(tmp_path, monkeypatch):
    hook = HOOKS.build(dict(type='mmfd.SkippedImagesHook', limit=0.02))
    other = dict(train={'2': 'x', '3': 'x'}, val={'4': 'x'}, test={})
    monkeypatch.setattr('mmfd.training.hooks.all_gather_object',
                        lambda own: [own, other])
    run = Run(tmp_path)
    hook.after_train_iter(run, 0, batch(('1', 'x')), {})
    with pytest.raises(ValueError, match='3 of 100'):
        hook.after_train_epoch(run)


@pytest.mark.full
def test_ten_thousand_files_with_one_per_cent_broken_train_to_the_end(
        tmp_path):
    """One broken file of each of ten ways in ten folders."""
    from test_tools import command
    root = tmp_path / 'images'
    suffixes = ('jpg', 'png', 'webp')
    rng = np.random.default_rng(0)
    names = set()
    for i in range(9900):
        path = root / f'{i % 10}/{i % 7}/{i}.{suffixes[i % 3]}'
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = ('RGB', 'L', 'RGBA')[i % 5 % 3] if i % 3 else 'RGB'
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
    for i in range(10):
        for name, make in BROKEN.items():
            path = root / f'{i}/{name}'
            make(path)
            names.add(str(path))
    log = command('train', 'configs/demo/simclr_fd.py', '--data-root', root,
                  '--work-dir', tmp_path / 'run', '--cfg-options',
                  'train_cfg.max_epochs=1', 'train_dataloader.batch_size=30')
    report = (tmp_path / 'run' / 'skipped_images.txt').read_text()
    assert {line.split('\t')[0] for line in report.splitlines()} == names
    assert '100 images could not be read and were skipped' in log
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()


# --- loading: workers, several crops of an image ---


@pytest.mark.parametrize('cores, processes, workers', [(1, 1, 1), (2, 1, 2),
                                                       (64, 1, 16), (64, 8, 8),
                                                       (4, 8, 1)])
def test_workers_are_the_cores_of_a_process_and_sixteen_at_most(
        monkeypatch, cores, processes, workers):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(cores))
    monkeypatch.setenv('LOCAL_WORLD_SIZE', str(processes))
    for leaf in 'fd/clip_vitb_fd', 'classification/clip_vitb_linear':
        cfg = Config.fromfile(f'configs/{leaf}.py')
        assert cfg.train_dataloader.num_workers == workers
        assert cfg.train_dataloader.persistent_workers


def test_several_crops_of_an_image_are_as_many_pixels(tmp_path):
    for i in range(3):
        draw(tmp_path / f'{i}.png', 50 * i)
    crop = dict(type='mmpretrain.RandomResizedCrop', scale=16)
    views = dict(type='mmpretrain.MultiView', num_views=2, transforms=[[crop]])
    dataset = folder(tmp_path, held_out=0)
    dataset.pipeline = Compose([PIPELINE[0], views, PIPELINE[-1]])
    batch = default_collate([dataset[i] for i in range(3)])
    pixels = MODELS.build(dict(type='mmfd.PixelPreprocessor'))(batch)['inputs']
    assert pixels.shape == (6, 3, 16, 16)
    assert pixels[:, 0, 0, 0].tolist() == [0, 50, 100, 0, 50, 100]
