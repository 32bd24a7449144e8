"""Folders of images with random oddities, and how each is to be read."""
import random
from collections import Counter
from typing import NamedTuple

NAMES = dict(  # usual spellings of a split, of which each tree takes one row
    plain=('train', 'val', 'test'),
    capital=('Train', 'Valid', 'Test'),
    upper=('TRAIN', 'VAL', 'TEST'),
    long=('training', 'validation', 'testing'),
    sets=('training_set', 'validation_set', 'test_set'),
    joined=('trainset', 'valset', 'testset'),
    spaced=('Training Set', 'Validation Set', 'Test Set'),
    camel=('TrainImages', 'ValImages', 'TestImages'),
    year=('train2017', 'val2017', 'test2017'),
    before=('images_train', 'images_dev', 'images_test'),
    archive=('ILSVRC2012_img_train', 'ILSVRC2012_img_val',
             'ILSVRC2012_img_test'),
    prefix=('seg_train', 'seg_val', 'seg_test'),
    numbered=('1-train', '2-valid', '3-test'),
    dashed=('my-train-data', 'my-val-data', 'my-test-data'))
CLASSES = ('cat', 'dog', 'bird', 'bus', 'tea pot', 'n01440764', '0', '1',
           'Ünder', 'sunset', 'trainer', 'contest', 'valley', 'images of sky')
JUNK = ('__MACOSX/{c}/._0.jpg', '__MACOSX/x.jpg', '@eaDir/0.jpg/THUMB_M.jpg',
        '.ipynb_checkpoints/0-checkpoint.jpg', 'lost+found/1.jpg', '._0.jpg',
        '$RECYCLE.BIN/S-1/a.jpg', '.DS_Store', 'Thumbs.db', 'notes.txt',
        'System Volume Information/i.png', '#recycle/a.png',
        '.thumbnails/large/a.png', '@Recycle/b.jpg', '.Trash-1000/files/a.jpg')
TWO_READINGS = (  # folders that can be read in two ways, split to train on
    ('train', 'bus', 'car'), ('cat', 'dog', 'test'),
    ('train', 'training', 'val'), ('train_clean', 'test_noisy'),
    ('train/train', 'train/test', 'val/cat'), ('a/train', 'a/val',
                                               'b'), ('val', 'valid', 'train'),
    ('validation', 'test'), ('a/train/cat', 'a/val/cat', 'b/train/cat',
                             'b/val/cat'), ('train1', 'train2', 'test'))


class Tree(NamedTuple):
    """Files of a data set and its right reading.

    Attributes:
        files (list[str]): paths of images and of what else lies there.
        splits (dict): 'train' and 'val' -> number of images of each class;
            of a share together, under `(train, val)`; None if there are two
            readings.
    """
    files: list
    splits: dict
    what: str


def random_tree(seed):
    """One of many trees; every tenth can be read in two ways."""
    rng = random.Random(seed)
    if seed % 10 == 9:
        folders = TWO_READINGS[seed // 10 % len(TWO_READINGS)]
        files = [f'{f}/{i}.jpg' for f in folders for i in range(3)]
        return Tree(files, None, ' '.join(folders))
    spelling = rng.choice([*NAMES])
    train, val, test = NAMES[spelling]
    present = rng.choice(
        ('train', 'train val', 'train test', 'train val test')).split()
    if spelling in ('prefix', 'archive', 'dashed') and len(present) == 1:
        present = ['train', 'test']  # alone it is any name
    folder_of = dict(train=train, val=val, test=test)
    style = rng.choice(('splits', 'splits', 'splits', 'in classes', 'none'))
    if spelling in ('prefix', 'archive', 'dashed') and style == 'in classes':
        style = 'splits'
    classes = rng.sample(CLASSES, rng.randint(2, 6))
    labelled = rng.random() < 0.8
    wrapper = rng.choice(('', '', 'archive/', 'data/set_v2/', 'images/'))
    twice = rng.choice((False, False, True))
    inside = rng.choice(('', '', 'images/'))
    if style == 'in classes':
        folders = {
            (s, c): f'{c}/{folder_of[s]}/'
            for s in present
            for c in classes
        }
    elif style == 'none':
        present = ['all']
        folders = {('all', c): f'{c}/' for c in classes}
    else:
        double = {
            s: f'{f}/{f}/' if twice else f'{f}/'
            for s, f in folder_of.items()
        }
        folders = {
            (s, c):
            f'{double[s]}{inside}{c}/' if labelled else f'{double[s]}{inside}'
            for s in present
            for c in classes
        }
    counts, files = {}, []
    for (split, label), folder in folders.items():
        deep = rng.choice(('', '', 'more/')) if labelled else ''
        if style == 'in classes':
            deep = ''
        for i in range(rng.randint(2, 9)):
            suffix = rng.choice(('jpg', 'JPEG', 'png', 'webp'))
            files.append(f'{wrapper}{folder}{deep}{label}_{i}.{suffix}')
            count = counts.setdefault(split, Counter())
            count[label if labelled or style != 'splits' else ''] += 1
        if rng.random() < 0.3:
            files.append(wrapper + folder + rng.choice(JUNK).format(c=label))
    for name in rng.sample(JUNK, rng.randint(0, 4)):
        files.append(wrapper + name.format(c=classes[0]))
    if style != 'in classes':
        base = folders[present[0], classes[0]].split('/')[0]
        empty = '' if style == 'none' else base + '/' + inside
        files.append(f'{wrapper}{empty}nothing yet/')  # an empty class
    if wrapper == 'images/' and rng.random() < 0.5:
        files += [
            f.replace('images/', 'labels/', 1).rsplit('.')[0] + '.png'
            for f in files
            if f.startswith('images/') and f.rsplit('.')[-1] in ('jpg', 'JPEG')
        ]
    what = f'{spelling}, {style}, {" ".join(present)}, {wrapper}{inside}'
    return Tree(sorted({*files}), _shares(counts, present), what)


def _shares(counts, present):
    """What is to train on and what to validate on; `share` of both."""
    if 'val' in present:
        return dict(train=counts['train'], val=counts['val'])
    if 'test' in present:
        return dict(train=counts['train'], val=counts['test'])
    return dict(share=counts[present[0]])


def write(root, tree):
    """Write the files of a tree, empty."""
    for name in tree.files:
        path = root / name
        if name.endswith('/'):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
