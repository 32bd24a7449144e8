"""Find the splits and classes of a data set in the names of its folders."""
import os
import re
from typing import NamedTuple

from mmfd.errors import Refused
from mmfd.weights.weight_files import first_few

# split -> words that name it, in any case
WORDS = dict(
    train=('train', 'training', 'trn', 'trainval'),
    val=('val', 'valid', 'validation', 'validate', 'dev', 'eval', 'evaluation',
         'holdout', 'heldout'),
    test=('test', 'testing', 'tst'))
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
# Words beside them that say nothing, alone or at the end of another word
PLAIN = re.compile('(data|dataset|set|split|part|image|img|picture|pic|photo|'
                   'folder|file|sample)s?$')
# Folders that hold images whatever their class, and what may lie beside them
CONTAINERS = {
    'images', 'image', 'imgs', 'img', 'jpegimages', 'jpegs', 'jpeg', 'jpg',
    'png', 'pngs', 'pictures', 'pics', 'photos', 'raw', 'data', 'files',
    'leftimg8bit', 'rgb'
}
ANNOTATIONS = {
    'annotations', 'annotation', 'annos', 'anno', 'anns', 'ann', 'labels',
    'label', 'masks', 'mask', 'gt', 'gts', 'gtfine', 'gtcoarse',
    'ground_truth', 'groundtruth', 'segmentation', 'segmentations',
    'segmentationclass', 'segmentationobject', 'bounding_box', 'xmls',
    'trimaps', 'depth', 'seg', 'panoptic', 'semantic', 'instance', 'disparity',
    'normals'
}
# What says nothing behind such a word; how a mask beside its image is called
NO_WORD = re.compile(r'(?<=\w)[ _-]?(dir|folder|png|jpe?g|tiff?|colou?red)s?$')
MASK = re.compile(
    r'(.+)[ _-](mask|masks|seg|label|labels|annotation|parts)'
    r'([ _-]?\d+)?\.\w+$', re.IGNORECASE)


class Layout(NamedTuple):
    """Where the images of each split and class are.

    Attributes:
        places (dict): folder -> (split, class) of the images in it. The split
            is None if no folder is one; the class is '' if they have none.
        folders (dict): split -> the folder that it was read from.
        doubt (str): why other folders can be the classes; '' if none can.
    """
    places: dict
    folders: dict
    doubt: str = ''

    def classes(self, split):
        """The classes of a split, with '' if some of its images have none."""
        return {label for of, label in self.places.values() if of == split}


class Folder:
    """A folder with images somewhere below it.

    Attributes:
        path (str): relative to the root.
        images (int): how many lie in it and in no folder of it.
        folders (dict): name -> Folder.
    """

    def __init__(self, path):
        self.path, self.images, self.folders = path, 0, {}

    def below(self):
        """The paths of this folder and of all below it."""
        folders = [self]
        for folder in folders:
            yield folder.path
            folders += [folder.folders[name] for name in folder.names()]

    def names(self):
        """The names of its folders, without annotations beside images."""
        of_images = {_rest(CONTAINERS, name) for name in self.folders}
        of_images -= {None}
        return [
            name for name in self.folders
            if _rest(ANNOTATIONS, name) not in of_images
        ]


def _holds(words, name):
    """Whether a name, perhaps with `_dir` behind it, is one of some words."""
    return _rest(words, name) == ''


def _rest(words, name):
    """What a name says besides one of some words: `A-` of `A-Mask`.

    Formats and `_dir` behind the word say nothing: '' of `masks_png`.

    Returns:
        str | None: None if the name ends in none of the words.
    """
    name = NO_WORD.sub('', name.lower())
    if name in words:
        return ''
    rest, apart, last = re.fullmatch('(.*?)([ _-]?)([^ _-]*)', name).groups()
    return rest if apart and last in words else None


def without_masks(names):
    """Tell images from the masks that lie beside them in a folder.

    `a_mask.png` is one beside `a.png`, and `a_seg_1.png` beside `a.jpg`.

    Args:
        names (list[str]): of the images in a folder.

    Returns:
        tuple[list[str]]: names of images, and of masks.
    """
    stems = {os.path.splitext(name)[0] for name in names}
    masks = {
        name
        for name in names if (mask := MASK.match(name)) and mask[1] in stems
    }
    return [name for name in names if name not in masks], [*masks]


def tree_of(counts):
    """The folders of images, as a tree.

    Args:
        counts (dict): folder, relative to the root -> how many images.
    """
    root = Folder('')
    for path, images in counts.items():
        folder = root
        for name in filter(None, path.split(os.sep)):
            folder = folder.folders.setdefault(
                name, Folder(os.path.join(folder.path, name)))
        folder.images += images
    return root


def find_splits(counts, chosen=None):
    """Find splits and classes by the names of the folders with images.

    `train`, `Training_Set`, `seg_train` beside `seg_test`, `images/train`,
    `data/train/train` and `cat/train` beside `dog/train` are splits; the
    folders below a split, or above it, are classes.

    Args:
        counts (dict): folder, relative to the root -> how many images.
        chosen (dict): split -> folder or folders, in the place of names;
            empty: there are no splits.

    Returns:
        Layout: folders without a place are left out.

    Raises:
        Refused: if the names can be read in two ways, or if a chosen folder
            has no images.
    """
    root = tree_of(counts)
    if chosen:
        layout = _of_splits({
            split: [
                _find(root, folder)
                for folder in ([value] if isinstance(value, str) else value)
            ]
            for split, value in chosen.items()
        })
        return layout._replace(doubt='')
    top = _unwrapped(root)
    if chosen is None:
        splits = _named_splits(top.names())
        if splits:
            _check_one_reading(top, splits)
            return _of_splits({
                split: [top.folders[name]]
                for split, [name] in splits.items()
            })
        if _splits_are_in_classes(top):
            return _of_classes(top)
    doubt = _doubt(top, 'dict()') if chosen is None else ''
    return Layout(dict(_places(top, None)), {None: ''}, doubt)


def _find(root, path):
    folder = root
    for name in os.path.normpath(path).split(os.sep):
        if name not in folder.folders:
            raise Refused(f'no images in the folder {path} that splits names')
        folder = folder.folders[name]
    return folder


def _of_splits(splits):
    """The layout of split -> folders that hold classes or images."""
    places, folders, classes, doubt = {}, {}, set(), ''
    for split in sorted(splits, key=[*WORDS].index):  # train is the first
        parts = [_unwrapped(part, split, classes) for part in splits[split]]
        for part in parts:
            places.update(_places(part, split))
            doubt = doubt or _doubt(part, f'dict({split}={part.path!r})')
        folders[split] = ' and '.join(part.path for part in parts)
        classes |= {label for _, label in places.values()}
    return Layout(places, folders, doubt)


def _doubt(folder, splits):
    """Why a folder's folders may not be the classes, but those in them.

    Each has the same in it, as domains and folds have: `Art/bus`, `Photo/bus`.

    Args:
        splits (str): what to set if they are the classes.

    Returns:
        str: '' if there is no doubt.
    """
    outer = [folder.folders[name] for name in folder.names()]
    inner = set.intersection(*({*f.names()} for f in outer)) if outer else ()
    if len(outer) < 2 or len(inner) < 2 or any(f.images for f in outer):
        return ''
    paths = [f.path for f in outer[:2]]
    return (f'{first_few(sorted(inner), 3)} are in each of '
            f'{first_few(sorted(folder.names()), 3)}, and either can be the '
            'classes: set dataset.splits to the folders that hold the classes,'
            f' as dict(train={paths}), or to {splits}')


def _places(folder, split):
    """(path, (split, class)) of a folder, whose folders are classes."""
    yield folder.path, (split, '')
    for name in folder.names():
        for path in folder.folders[name].below():
            yield path, (split, name)


def _unwrapped(folder, split=None, classes=()):
    """Go down to the folder that holds classes or images.

    Folders above it hold nothing but one folder each, as in `train/train`.

    Args:
        folder (Folder): where to begin: of a split, or the root.
        classes (set): names that are known to be classes.
    """
    while not folder.images and len(names := folder.names()) == 1:
        [name] = names
        inner, named = folder.folders[name], read_name(name)
        if name in classes or (named and not named[1] and named[0] != split):
            break
        if not (_holds(CONTAINERS, name) or (named and named[0] == split) or
                (inner.folders and not inner.images)):
            break
        folder = inner
    return folder


def read_name(name):
    """(split, other words) in the name of a folder, None if it names none."""
    apart = re.sub('(?<=[a-z])(?=[A-Z])', ' ', name)
    words = [
        PLAIN.sub('', word) for word in re.split(r'[\W\d_]+', apart.lower())
        if word
    ]
    splits = {SPLIT_OF[word] for word in words if word in SPLIT_OF}
    if not splits or len(splits) > 1 and splits != {'train', 'val'}:
        return None
    others = tuple(w for w in words if w and w not in SPLIT_OF)
    return min(splits), others  # the images of `train_val` are to train on


def _named_splits(names):
    """split -> names of the folders that are it; empty if none is.

    Names of a split and nothing more count. Without any, names that differ in
    the split alone do, as `seg_train` and `seg_test`.

    Raises:
        Refused: if two folders name one split, or if all folders name one,
            each in another way.
    """
    read = {name: read_name(name) for name in names}
    read = {name: found for name, found in read.items() if found}
    alike = {}  # other words -> split -> names
    for name, (split, others) in read.items():
        alike.setdefault(others, {}).setdefault(split, []).append(name)
    # `train` alone is a split, `seg_train` only beside `seg_test`
    named = [s for others, s in alike.items() if not others or len(s) > 1]
    splits = alike.get(()) or (named[0] if named else {})
    all_name_one = len(read) == len(names) and len(
        {split
         for split, _ in read.values()}) > 1
    if () not in alike and len(alike) > 1 and (named or all_name_one):
        raise _two_readings(
            f'{", ".join(sorted(read)[:6])} can be splits or classes')
    for split, same in splits.items():
        if len(same) > 1:
            raise _two_readings(f'{" and ".join(sorted(same)[:6])} both seem '
                                f'to be the {split} split')
    return splits


def _check_one_reading(top, splits):
    """Refuse splits beside folders or among folders that may be classes."""
    names = {name for [name] in splits.values()}
    others = sorted(set(top.names()) - names)
    if others and (len(splits) == 1 or 'train' not in splits):
        raise _two_readings(
            f'{" and ".join(sorted(names))} can be '
            f'{"splits" if len(names) > 1 else "a split"}, or classes beside '
            f'{", ".join(others[:6])}')
    if 'train' in splits:
        [name] = splits['train']
        within = [
            inner for inner in top.folders[name].names()
            if read_name(inner) in (('val', ()), ('test', ()))
        ]
        if within:
            raise _two_readings(f'{", ".join(within)} in {name} can be a '
                                'class or a split')


def _splits_are_in_classes(top):
    """Whether each folder is a class with folders for its splits.

    Raises:
        Refused: if some are, or if their splits hold folders.
    """
    inside = {}
    for name in top.names():
        folder = top.folders[name]
        read = [read_name(n) for n in folder.folders]
        inside[name] = not folder.images and all(
            found and not found[1]
            for found in read) and 'train' in {split
                                               for split, _ in read}
    if not any(inside.values()):
        return False
    deep = any(split.folders for name in inside
               for split in top.folders[name].folders.values())
    if deep or not all(inside.values()):
        some = sorted(name for name in inside if inside[name])
        raise _two_readings(f'{", ".join(some[:6])} '
                            f'{"has" if len(some) == 1 else "have"} splits '
                            'inside and can be a data set or a class')
    return True


def _of_classes(top):
    """The layout of classes that hold splits."""
    places = {
        part.path: (read_name(name)[0], label)
        for label, folder in top.folders.items()
        for name, part in folder.folders.items()
    }
    folders = {
        read_name(name)[0]: os.path.join(top.path, '*', name)
        for folder in top.folders.values()
        for name in folder.folders
    }
    return Layout(places, folders)


def _two_readings(what):
    return Refused(
        f'{what}: name a folder further down, or set dataset.splits to the '
        "folders, as dict(train='photos', val='check'), or to dict() if there "
        'are none')
