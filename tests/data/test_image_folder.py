"""Which images a folder has: its splits, its labels, its broken ones."""
import errno
import os
import re
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers.images import BROKEN, GOOD, noise, solid
from helpers.rights import without_root_rights
from mmengine.dataset import Compose, default_collate
from mmengine.registry import DATASETS, MODELS

from mmfd.data import away, decode
from mmfd.data.sampler import SeededIndex
from mmfd.errors import Refused
from mmfd.hosts import log

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


def paths(dataset):
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


# --- layouts, splits, labels ---


def test_a_part_of_a_folder_is_said(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(log, 'info', lines.append)
    for i in range(5):
        solid(tmp_path / f'train/{i}.jpg')
    solid(tmp_path / 'val/a.jpg')
    assert len(folder(tmp_path)) == 5
    assert len(folder(tmp_path, indices=3)) == 3
    whole, part = lines
    assert 'train: 5 images' in whole and part == f'{whole}; 3 are taken'


def test_nested_mixed_folder_needs_no_list_and_no_labels(tmp_path):
    names = ('a.jpg', 'deep/er/b.JPEG', 'deep/c.png', 'd.webp', 'ü/e.bmp')
    for name in names:
        solid(tmp_path / name)
    for name in ('notes.txt', '._a.jpg', '.cache/x.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('')
    train, val = folder(tmp_path), folder(tmp_path, 'val')
    assert sorted(paths(train) + paths(val)) == sorted(
        str(tmp_path / name) for name in names)
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
    solid(tmp_path / 'train/cat/a.jpg')
    solid(tmp_path / 'val/b.jpg')  # as ImageNet's archive unpacks
    assert 'gt_label' not in folder(tmp_path, 'val')[0]['data_samples']
    with pytest.raises(Refused, match='b.jpg lies in no class folder'):
        folder(tmp_path, 'val', with_label=True)


def test_labels_agree_between_splits_of_different_classes(tmp_path):
    for name in 'train/bee', 'train/cow', 'val/ant', 'val/cow':
        solid(tmp_path / name / 'x.jpg')
    numbers = {
        Path(d['img_path']).parent.name: d['gt_label']
        for split in ('train', 'val')
        for d in [folder(tmp_path, split).get_data_info(i) for i in (0, 1)]
    }
    assert numbers == dict(ant=0, bee=1, cow=2)


def test_other_split_without_the_right_to_read_is_refused(tmp_path):
    solid(tmp_path / 'train/cat/a.jpg')
    solid(tmp_path / 'val/cat/b.jpg')
    (tmp_path / 'val').chmod(0)
    with without_root_rights(), pytest.raises(
            Refused, match='cannot list the image folder .*/val: Permission'):
        folder(tmp_path)


def test_several_roots_are_one_set(tmp_path):
    for root in 'a', 'b':
        for i in range(10):
            solid(tmp_path / root / f'{i}.png')
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
    solid(tmp_path / 'a.jpg')
    assert len(folder(tmp_path, held_out=0)) == 1
    with pytest.raises(Refused, match='held_out=0 .* leaves no image'):
        folder(tmp_path, 'val', held_out=0)


def test_folder_without_images_is_refused(tmp_path):
    with pytest.raises(Refused, match='no images in .*looked for .jpg'):
        folder(tmp_path)


def test_several_crops_of_an_image_are_as_many_pixels(tmp_path):
    for i in range(3):
        solid(tmp_path / f'{i}.png', 50 * i)
    crop = dict(type='mmpretrain.RandomResizedCrop', scale=16)
    views = dict(type='mmpretrain.MultiView', num_views=2, transforms=[[crop]])
    dataset = folder(tmp_path, held_out=0)
    dataset.pipeline = Compose([PIPELINE[0], views, PIPELINE[-1]])
    batch = default_collate([dataset[i] for i in range(3)])
    pixels = MODELS.build(dict(type='mmfd.PixelPreprocessor'))(batch)['inputs']
    assert pixels.shape == (6, 3, 16, 16)
    assert pixels[:, 0, 0, 0].tolist() == [0, 50, 100, 0, 50, 100]


# --- broken images ---


def broken_folder(root, good):
    root.mkdir()
    for i in range(good):
        solid(root / f'{i % 3}/{i}.png', i)
    for name, make in BROKEN.items():
        make(root / name)
    return root


def test_broken_image_is_replaced_by_the_same_other_one(tmp_path):
    dataset = folder(broken_folder(tmp_path / 'images', good=30), held_out=0)
    for i in range(len(dataset)):
        sample, again = dataset[i], dataset[i]
        assert torch.equal(sample['inputs'], again['inputs'])
        name = Path(dataset.get_data_info(i)['img_path']).name
        skipped = [Path(p).name for p, _ in sample['data_samples'].skipped]
        assert (name in BROKEN) == (skipped[:1] == [name])


def test_every_good_image_of_a_crawl_is_used(tmp_path):
    root = broken_folder(tmp_path / 'images', good=5)
    (root / 'up').symlink_to(root)
    os.mkfifo(root / 'pipe.jpg')  # is left out
    for name, make in GOOD.items():
        make(root / name)
    dataset = folder(root, held_out=0)
    used = {
        Path(path).name
        for i, path in enumerate(paths(dataset))
        if dataset[i]['data_samples'].img_path == path
    }
    assert GOOD.keys() - {'not_utf8.jpg'} <= used
    assert any('\udce9' in name for name in used)
    assert len(used) == 5 + len(GOOD)


def test_folder_of_nothing_but_broken_images_ends(tmp_path):
    dataset = folder(broken_folder(tmp_path / 'images', good=0), held_out=0)
    with pytest.raises(Refused, match='100 draws from 19 images gave none'):
        dataset[0]


# --- images that are away ---


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A folder of ten images, and the name it has while it is away."""
    monkeypatch.setattr(away, 'FIRST_PAUSE', 0.05)
    for i in range(10):
        solid(tmp_path / f'disk/images/{i}.png', 20 * i)
    return tmp_path / 'disk', tmp_path / 'unmounted'


def back_after(seconds, away, folder):
    timer = threading.Timer(seconds, away.rename, [folder])
    timer.start()
    return timer


@pytest.mark.parametrize('left', ['no folder', 'an empty folder'])
def test_images_that_are_away_are_waited_for_and_not_broken(
        mounted, monkeypatch, left):
    """An unmounted file system leaves the folder where it was mounted."""
    disk, unmounted = mounted
    root = disk / 'images'
    lines, dataset = [], folder(root, held_out=0)
    monkeypatch.setattr(log, 'info', lines.append)
    before = [dataset[i]['inputs'] for i in range(10)]
    assert not lines
    disk.rename(unmounted)
    if left == 'an empty folder':
        root.mkdir(parents=True)
        timer = threading.Timer(
            0.7, lambda: (root.rmdir(), disk.rmdir(), unmounted.rename(disk)))
        timer.start()
    else:
        timer = back_after(0.7, unmounted, disk)
    for i in range(10):
        sample = dataset[i]
        assert torch.equal(sample['inputs'], before[i])
        assert not sample['data_samples'].skipped
    timer.join()
    reason = {'no folder': 'No such file', 'an empty folder': 'is empty'}
    first, last = lines
    assert 'waiting up to 600 s' in first and reason[left] in first
    assert re.fullmatch(r'the images are back after [\d.]+ s', last)


def test_random_crop_after_a_wait_is_the_one_it_would_have_been(mounted):
    disk, unmounted = mounted
    dataset = folder(disk / 'images', held_out=0)
    noise().save(disk / 'images/3.png')
    crop = dict(type='mmpretrain.RandomResizedCrop', scale=16)
    views = dict(
        type='mmfd.StoredViews',
        views=4,  # one is drawn before the file is read
        transforms=[PIPELINE[0], crop])
    dataset.pipeline = Compose([views, PIPELINE[-1]])
    expected = [dataset[SeededIndex(3, n)]['inputs'] for n in range(6)]
    for n in range(6):
        disk.rename(unmounted)
        timer = back_after(0.1, unmounted, disk)
        assert torch.equal(dataset[SeededIndex(3, n)]['inputs'], expected[n])
        timer.join()
    assert len({each.numpy().tobytes() for each in expected}) > 1


def test_images_that_stay_away_end_the_run(mounted):
    disk, unmounted = mounted
    dataset = folder(disk / 'images', held_out=0, max_wait=0.2)
    disk.rename(unmounted)
    with pytest.raises(
            Refused,
            match=r'away for 0.2 s \(.*images: No such file.*\): mount .* '
            '--resume, or set dataset.max_wait'):
        dataset[0]


def test_single_image_that_is_gone_is_broken_at_once(mounted):
    root = mounted[0] / 'images'
    dataset = folder(root, held_out=0)
    (root / '4.png').unlink()
    begun = time.monotonic()
    skipped = [dataset[i]['data_samples'].skipped for i in range(10)]
    assert time.monotonic() - begun < 1
    assert [i for i in range(10) if skipped[i]] == [4]
    assert skipped[4] == [(str(root / '4.png'), 'No such file or directory')]


class FailingDisk:
    """`open` and `stat` as of a disk that answers with an error at times."""

    def __init__(self, monkeypatch, number, fails):
        self.open, self.number, self.fails = open, number, fails
        monkeypatch.setattr(decode, 'open', self, raising=False)
        monkeypatch.setattr(away, 'open', self, raising=False)

    def __call__(self, path, mode):
        if self.fails(os.path.basename(path)):
            raise OSError(self.number, os.strerror(self.number), path)
        return self.open(path, mode)


NUMBERS = errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN


@pytest.mark.parametrize('number', NUMBERS)
def test_file_system_that_answers_with_errors_is_waited_for(
        mounted, monkeypatch, number):
    dataset, begun = folder(mounted[0], held_out=0), time.monotonic()
    FailingDisk(monkeypatch, number,
                lambda name: time.monotonic() - begun < 0.4)
    assert not any(dataset[i]['data_samples'].skipped for i in range(10))
    assert time.monotonic() - begun > 0.4


def test_bad_sector_is_one_broken_image(mounted, monkeypatch):
    dataset = folder(mounted[0], held_out=0)
    FailingDisk(monkeypatch, errno.EIO, lambda name: name == '7.png')
    broken = [dataset[i]['data_samples'].skipped for i in range(10)]
    assert [[reason for _, reason in skipped] for skipped in broken
            if skipped] == [['Input/output error']]
