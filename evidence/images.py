"""The images of `make small`: which of CIFAR-10 and CamVid are for what.

Of CIFAR-10, 20,000 training images are trained on, 5,000 others are for
choosing learning rates, the 10,000 test images are for the table. Which they
are follows from their names alone. CamVid comes with its three parts.
"""
import fcntl
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import captions

from mmfd.data import toy_images
from mmfd.data.scan import find_images
from mmfd.errors import Refused
from mmfd.files import os_errors_refused, output_file

CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog',
           'horse', 'ship', 'truck')
TRAINED, HELD_OUT, TESTED = 2000, 500, 1000  # images of each class
PARTS = 'train', 'val', 'test'
FOLDER = Path('data/small')
DRAWN = FOLDER / 'drawn'  # images with captions
DRAWN_FROM = 20_000  # number of the first; the demo has others
EXPECTED = ('expected is CIFAR-10 as DATA/train/CLASS/IMAGE and '
            'DATA/test/CLASS/IMAGE (docs/evidence.md says how to make it)')
CAMVID = ('expected is CamVid as CAMVID/images/PART/NAME.jpg and '
          'CAMVID/annotations/PART/NAME.png with PART train, val or test '
          '(docs/evidence.md says how to make it)')


def selection(data):
    """Copy what learning rates are chosen on: no test image is looked at.

    Returns:
        Path: folder with `train` and `val`; its name ends in their sum.

    Raises:
        Refused: if `data` is not CIFAR-10 as a folder of images.
    """
    train, held_out = _training_images(data)
    return _copy(data, 'selection', train, held_out)


def final(data):
    """Copy what the tables are made of: the same `train`; `val` is the test.

    Returns and raises as `selection`.
    """
    train, _ = _training_images(data)
    test = [
        image for name in CLASSES
        for image in _of_class(data, 'test', name, TESTED)
    ]
    return _copy(data, 'final', train, test)


def _training_images(data):
    """Paths below `data` of what is trained on, and of what is held out."""
    classes = [
        _of_class(data, 'train', name, TRAINED + HELD_OUT) for name in CLASSES
    ]
    return ([image for images in classes for image in images[:TRAINED]],
            [image for images in classes for image in images[TRAINED:]])


def _of_class(data, split, name, count):
    """The first so many images of a class in the order of their hashes."""
    folder = Path(data, split)
    with os_errors_refused(f'DATA={data}: cannot list {folder}', EXPECTED):
        found = {entry.name for entry in os.scandir(folder)}
    if found != {*CLASSES}:
        raise Refused(f'DATA={data}: {folder} has the classes '
                      f'{_short(sorted(found))}; {EXPECTED}')
    paths = [
        os.path.join(split, name, path) for path in find_images(folder / name)
    ]
    if len(paths) < count:
        raise Refused(f'DATA={data}: {folder / name} has {len(paths)} images, '
                      f'{count} are needed; {EXPECTED}')
    return sorted(paths, key=_hash)[:count]


def _hash(path):
    return hashlib.sha256(path.encode()).digest()


def _short(names):
    return ', '.join(names[:12]) + (', ...' if len(names) > 12 else '')


def shapes_selection(data):
    """As `selection`, for the teacher that learns from captions.

    Its images are drawn, since CIFAR-10 has no captions.

    Args:
        data: not used.
    """
    train, val = _drawn()
    held_out = HELD_OUT * len(toy_images.CLASSES)
    return _copy(DRAWN, 'shapes_selection', train, val[:held_out])


def shapes_final(data):
    """As `final`, of drawn images."""
    train, val = _drawn()
    held_out = HELD_OUT * len(toy_images.CLASSES)
    return _copy(DRAWN, 'shapes_final', train, val[held_out:])


def camvid_selection(data):
    """As `selection`, of street scenes; `annotations` lie beside `images`.

    Raises:
        Refused: if `data` is not CamVid.
    """
    return _copy(data, 'camvid_selection', _scenes(data, 'train'),
                 _scenes(data, 'val'))


def camvid_final(data):
    """As `final`, of street scenes.

    Raises:
        Refused: if `data` is not CamVid.
    """
    return _copy(data, 'camvid_final', _scenes(data, 'train'),
                 _scenes(data, 'test'))


def _scenes(data, part):
    """Paths below `data` of the images of a part and of their masks."""
    folder = Path(data, 'images', part)
    found = []
    for name in sorted(path.name for path in folder.glob('*.jpg')):
        mask = Path('annotations', part, name).with_suffix('.png')
        if not Path(data, mask).is_file():
            raise Refused(f'CAMVID={data}: {folder / name} has no mask '
                          f'{mask}; {CAMVID}')
        found += [f'images/{part}/{name}', str(mask)]
    if not found:
        raise Refused(f'CAMVID={data}: {folder} has no images; {CAMVID}')
    return found


def _drawn():
    """Paths below `DRAWN` of training images and of others, by number."""
    classes = len(toy_images.CLASSES)
    counts = dict(train=TRAINED * classes, val=(HELD_OUT + TESTED) * classes)
    with _locked(DRAWN):
        toy_images.write(DRAWN / 'images', counts, DRAWN_FROM)
        if not (DRAWN / 'captions.json').exists():
            words = {
                f'{i:05d}': captions.caption('train', i)
                for i in range(DRAWN_FROM, DRAWN_FROM + counts['train'])
            }
            with output_file(DRAWN / 'captions.json') as file:
                file.write_text(json.dumps(words))
    root = DRAWN / 'images/imagenet'
    return [
        sorted((str(path.relative_to(DRAWN))
                for path in (root / split).glob('*/*.jpg')),
               key=lambda path: Path(path).name) for split in counts
    ]


@contextmanager
def _locked(folder):
    """Let only one process at a time be here."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(data, name, train, val):
    """Copy images into a folder whose name has their sum, if need be."""
    total = hashlib.sha256()
    for image in train + val:
        total.update(image.encode() + Path(data, image).read_bytes())
    folder = FOLDER / f'{name}_{total.hexdigest()[:16]}'
    if folder.exists():
        return folder
    unfinished = folder.with_name(f'{folder.name}.{uuid4().hex[:8]}.part')
    with os_errors_refused(f'{folder} cannot be written', 'make room for it'):
        for split, images in dict(train=train, val=val).items():
            for image in images:
                *_, kind, file = (
                    part for part in Path(image).parts if part not in PARTS)
                target = unfinished / split / kind / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(data, image), target)
        if folder.exists():  # another process was faster
            shutil.rmtree(unfinished)
        else:
            unfinished.rename(folder)
    return folder
