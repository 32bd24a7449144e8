"""The drawn images are the same for ever, in three layouts."""
import hashlib
import json

import cv2
import numpy as np
import pytest
from helpers.commands import run

from mmfd.data import toy_images


def test_images_are_the_same_in_every_run():
    digest = hashlib.sha256()
    for index in range(4):
        image, label, objects = toy_images.draw('train', index)
        assert label == index == objects[-1][0]  # the large shape comes last
        digest.update(image.tobytes())
    assert digest.hexdigest()[:16] == 'fc81d7a5e0a45ac2'
    assert not np.array_equal(image, toy_images.draw('val', index)[0])


def test_three_layouts_show_the_same_images(shapes_root):
    [classified] = shapes_root.glob('imagenet/train/*/00003.jpg')
    data = classified.read_bytes()
    assert classified.parent.name == toy_images.CLASSES[3]
    assert (shapes_root / 'ade/images/training/00003.jpg').read_bytes() == data
    assert (shapes_root / 'coco/train2017/00003.jpg').read_bytes() == data


def test_masks_and_annotations_are_of_the_same_objects(shapes_root):
    _, _, objects = toy_images.draw('train', 3)
    mask = cv2.imread(
        str(shapes_root / 'ade/annotations/training/00003.png'),
        cv2.IMREAD_UNCHANGED)
    for kind, visible in objects:
        assert (mask[visible] == kind + 1).all()
    coco = json.loads(
        (shapes_root /
         'coco/annotations/instances_train2017.json').read_text())
    annotated = {(a['category_id'], a['area'])
                 for a in coco['annotations'] if a['image_id'] == 3}
    assert annotated == {(kind + 1, visible.sum())
                         for kind, visible in objects if visible.sum() >= 20}
    assert [c['name'] for c in coco['categories']] == [*toy_images.CLASSES]


def test_fresh_images_are_those_of_other_indices(tmp_path):
    toy_images.write(tmp_path / 'fresh', dict(val=2), first=7)
    root = tmp_path / 'fresh/imagenet/val'
    assert sorted(path.name for path in root.rglob('*.jpg')) == [
        '00007.jpg', '00008.jpg'
    ]
    [path] = root.rglob('00008.jpg')
    image, label, _ = toy_images.draw('val', 8)
    assert path.parent.name == toy_images.CLASSES[label]
    assert np.abs(cv2.imread(str(path)) - image.astype(int)).mean() < 8
    coco = json.loads(
        (tmp_path /
         'fresh/coco/annotations/instances_val2017.json').read_text())
    assert [image['id'] for image in coco['images']] == [7, 8]
    assert {a['image_id'] for a in coco['annotations']} == {7, 8}


def test_set_that_is_there_is_left_as_it_is(tmp_path):
    (tmp_path / 'shapes').mkdir()
    toy_images.write(tmp_path / 'shapes')
    assert not [*(tmp_path / 'shapes').iterdir()]


@pytest.mark.parametrize('name', ['mmfd.data.toy_images', 'mmfd.shapes'])
def test_place_that_cannot_be_written_to_is_one_message(tmp_path, name):
    (tmp_path / 'file').touch()
    status, output = run('-m', name, tmp_path / 'file' / 'shapes')
    assert status == 1
    assert output.startswith(f'error: cannot make the folder {tmp_path}/file')
    assert [*tmp_path.iterdir()] == [tmp_path / 'file']
