"""Which images a folder has: its splits, its labels, its broken ones."""
import os
from pathlib import Path

import pytest
import torch
from helpers.images import BROKEN, GOOD, solid
from helpers.rights import without_root_rights
from mmengine.dataset import Compose, default_collate
from mmengine.registry import DATASETS, MODELS

from mmfd.errors import Refused

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
