"""Which images are for what, and what is refused as DATA."""
import os
from pathlib import Path

import pytest
from helpers.commands import run
from helpers.images import class_tree

from mmfd.errors import Refused


@pytest.fixture
def images(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend('evidence')
    import images
    for name, count in dict(TRAINED=4, HELD_OUT=2, TESTED=3).items():
        monkeypatch.setattr(images, name, count)
    monkeypatch.chdir(tmp_path)
    return images


def files(folder):
    return {path.read_text() for path in folder.rglob('*.jpg')}


def test_selection_needs_no_test_images_and_holds_others_out(images):
    class_tree(Path('data'), images.CLASSES, train=7)
    folder = images.selection('data')
    train, val = files(folder / 'train'), files(folder / 'val')
    assert (len(train), len(val), train & val) == (40, 20, set())
    with pytest.raises(Refused, match='DATA=data: cannot list data/test'):
        images.final('data')


def test_final_runs_train_on_the_same_images_and_see_all_test_images(images):
    class_tree(Path('data'), images.CLASSES, train=7, test=3)
    selection, final = images.selection('data'), images.final('data')
    assert files(final / 'train') == files(selection / 'train')
    assert {text.split()[0] for text in files(final / 'val')} == {'test'}
    assert len(files(final / 'val')) == 30


def test_folder_is_named_by_the_sum_of_its_images(images):
    class_tree(Path('data'), images.CLASSES, train=7)
    first = images.selection('data')
    assert images.selection('data') == first
    with open('data/train/cat/0.jpg', 'a') as file:
        file.write('!')
    with open('data/train/cat/1.jpg', 'a') as file:
        file.write('!')
    assert {images.selection('data'), first} <= {*images.FOLDER.iterdir()}


def test_too_few_images_are_refused(images):
    class_tree(Path('data'), images.CLASSES, train=5)
    with pytest.raises(Refused, match='airplane has 5 images, 6 are needed'):
        images.selection('data')


def test_other_classes_are_refused(images):
    class_tree(Path('data'), images.CLASSES, train=7)
    os.rename('data/train/cat', 'data/train/lion')
    with pytest.raises(Refused, match='has the classes airplane, .*lion'):
        images.selection('data')


def scenes(folder, **parts):
    """CamVid's folders with `parts`, numbers of images."""
    for part, count in parts.items():
        for kind, suffix in dict(images='jpg', annotations='png').items():
            (folder / kind / part).mkdir(parents=True)
            for i in range(count):
                path = folder / kind / part / f'{i}.{suffix}'
                path.write_text(f'{kind} {part} {i}')


def test_street_scenes_come_with_their_masks(images):
    scenes(Path('scenes'), train=3, val=2)
    folder = images.camvid_selection('scenes')
    found = {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob('*.*')
    }
    assert len(found) == 10
    assert found['train/annotations/2.png'] == 'annotations train 2'
    assert found['val/images/1.jpg'] == 'images val 1'
    with pytest.raises(Refused, match='scenes/images/test has no images'):
        images.camvid_final('scenes')


def test_street_scene_without_a_mask_is_refused(images):
    scenes(Path('scenes'), train=3, val=2)
    os.remove('scenes/annotations/val/1.png')
    with pytest.raises(
            Refused, match='1.jpg has no mask annotations/val/1.png'):
        images.camvid_selection('scenes')


def test_data_that_is_not_there_is_one_message(tmp_path):
    status, output = run('evidence/run.py', tmp_path / 'none')
    assert status == 1
    assert output.startswith(f'error: DATA={tmp_path}/none: cannot list ')
    assert len(output.splitlines()) == 1
