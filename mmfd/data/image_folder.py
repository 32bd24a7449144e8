"""A data set of the images below folders; no list and no labels needed."""
import hashlib
import os
import platform
import random
from collections import defaultdict

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import broadcast_object_list, is_main_process

from mmfd.data import stores
from mmfd.data.away import wait_until_back
from mmfd.data.decode import BrokenImage
from mmfd.data.roots import open_root
from mmfd.data.sampler import SeededIndex
from mmfd.data.selection import Selection, Selections, lowest
from mmfd.data.splits import WORDS, find_splits
from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.registry import DATASETS
from mmfd.weights.weight_files import first_few

MAX_BROKEN = 100  # images that are tried in the place of one
MAX_CLASSES = 1_000_000


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """The images below one or several folders, as files or in shards.

    A root may be a folder of images; a folder of tar shards (in the layout of
    webdataset) or of Parquet files (of Hugging Face's data sets); one shard,
    or a pattern of them, as `cc12m/{0000..1242}.tar`. Shards may lie in an
    object store, and a root be their address, as `s3://bucket/cc12m`. Labels
    of shards are read off `.cls` members and `label` columns, splits off their
    names.

    Folders that are named as splits are (`splits.find_splits`), and never
    classes. `val` is the folder of `test` where there is none of its own,
    unless that has no classes and `train` has. Where no folder says it, a
    share of the images is held out as `val`, chosen by a hash of their paths,
    so that the split is the same in every run and hardly changes when images
    are added.

    A line in the log, the attribute `source`, says which folder was read, how
    many images it has and of which classes.

    Another image takes the place of a broken one, the same in every epoch.
    `data_samples.skipped` lists the broken ones as (path, reason), for
    `mmfd.SkippedImagesHook`, and `retried` why a store was asked again, reason
    -> how often, if it was. Images are not broken while their folder or file
    system is away, such as a mount that drops: they are waited for.

    Args:
        data_root (str or list[str]): folder, shards or address, or several.
        split (str): `train`, `val` or `test`, which is `val` where no folder
            is named so.
        pipeline (list[dict]): transforms, from `mmfd.LoadImage` on.
        with_label (bool): whether the first folder of a path below its split
            is the class of the image. None: yes, if every root has splits,
            every image lies in a class folder, and no other can be it.
        held_out (float): share of the images, 0-1, that is `val` where no
            folder is.
        indices (int or list[int]): take only the first so many, or these.
        max_wait (float): seconds to wait for images that are away.
        splits (dict): split -> folder, or list of folders, below every root,
            if the names do not say it. Empty: no folder is a split.

    Raises:
        Refused: if there is no such folder, no image in it, or no label where
            one is needed; if the names of folders can be read in two ways, or
            if `val` has classes that `train` lacks.
    """

    def __init__(self,
                 data_root,
                 split,
                 pipeline,
                 with_label=None,
                 held_out=0.01,
                 indices=None,
                 max_wait=600.,
                 splits=None):
        if split not in WORDS:
            raise Refused(f"split={split!r}: set it to 'train', 'val' or "
                          "'test'")
        if strange := {*(splits or ())} - {*WORDS}:
            raise Refused(f'splits names {sorted(strange)}: expected are '
                          f'{", ".join(WORDS)}')
        self.roots = [data_root] if isinstance(data_root, str) else data_root
        self.split = split
        self.with_label = with_label
        self.held_out = held_out
        self.max_wait = max_wait
        self.splits = splits
        self.subset = indices
        # one process looks, and sends the others what it found
        found = [self._scan() if is_main_process() else None]
        broadcast_object_list(found)
        self.images, classes, self.source, self.sum = found[0]
        if not self.images.are_here:  # another machine, with its own cache
            self.images, *_, there = self._scan()
            if there != self.sum:
                raise Refused(
                    f'on {platform.node()} {data_root} has other images than '
                    'where the first process is: make them equal')
        super().__init__(
            metainfo=dict(classes=classes),
            pipeline=pipeline,
            indices=indices,
            serialize_data=False)  # they are in no memory of its own
        if pipeline and is_main_process():  # else it is only looked at
            taken = '' if indices is None else f'; {len(self):,} are taken'
            log.info(f'{self.source}{taken}')

    def load_data_list(self):
        """Called by the host, which takes them for a list."""
        return self.images

    def summary(self):
        """How many images these are, and a sum of their names and labels.

        Returns:
            dict: `number` (int) and `sum` (32 hexadecimal digits), the same
            wherever the roots are.
        """
        digest = hashlib.blake2b(
            f'{self.sum} {self.subset}'.encode(), digest_size=16)
        return dict(number=len(self), sum=digest.hexdigest())

    def __getitem__(self, index):
        """The sample, or another one in the place of a broken image.

        Raises:
            Refused: if the others that were tried are broken, too.
        """
        skipped, others = [], random.Random(int(index))
        while True:
            info = self.get_data_info(int(index))
            try:
                sample = self._sample(index, info)
            except BrokenImage as error:
                skipped.append((info['img_path'], str(error)))
            else:
                notes = dict(skipped=skipped)
                if retried := stores.take_retried():
                    notes['retried'] = retried
                sample['data_samples'].set_metainfo(notes)
                return sample
            if len(skipped) == MAX_BROKEN:
                path, reason = skipped[-1]
                raise Refused(
                    f'{MAX_BROKEN} draws from {len(self)} images gave none '
                    f'that can be read, the last one {path}: {reason}. Set '
                    'data_root to a folder with fewer broken files, or '
                    'held_out to a larger share')
            index = others.randrange(len(self))

    def _sample(self, index, info):
        """What the pipeline makes of an image, once it can be read."""
        failed = 0  # times in which nothing was away
        while True:
            if isinstance(index, SeededIndex):
                index.seed_all()
            try:
                return self.pipeline(info)
            except BrokenImage as error:
                # the first time it may have come back just now
                if not error.unread or failed == 1:
                    raise
                failed = 0 if self._was_away(int(index)) else 1

    def _was_away(self, index):
        """Wait until images can be read, and say whether that was needed."""
        another = self.get_data_info((index + 1) % len(self))['img_path']
        watched = [part.images.watched for part in self.images.parts]
        return wait_until_back(watched, getattr(another, 'file', another),
                               self.max_wait)

    def _scan(self):
        """Images, names of their classes, `source` and their sum."""
        trees = [_Tree(root, self.splits) for root in self.roots]
        chosen = [(tree, *self._choose(tree)) for tree in trees]
        with_label = self.with_label
        if with_label is None:
            with_label = all(
                tree.has_sure_labels and tree.unlabelled(units) is None
                for tree, units, *_ in chosen)
        classes = self._classes(chosen) if with_label else ()
        numbers = {name: number for number, name in enumerate(classes)}
        images = Selections([
            Selection(tree.images, units,
                      tree.numbers(numbers) if with_label else None, *held_out)
            for tree, units, *held_out in chosen
        ])
        source = self._source(trees, len(images), classes)
        return images, classes, source, images.sum()

    def _choose(self, tree):
        """The units with the images of this split, and which are held out."""
        place = tree.place_of(self.split)
        units = tree.units[place]
        if not len(units):
            raise Refused(
                f'{tree.images.root} has no images to train on, only the '
                f'splits {", ".join(sorted(tree.units))}: name another with '
                '--data-root, or set dataset.splits')
        other = 'val' if self.split == 'train' else 'train'
        if place != tree.place_of(other):
            return units,
        # one folder for both, so a share of it is held out
        counts = tree.images.counts[units]
        count = int(counts.sum())
        held_out = max(round(self.held_out * count), self.held_out > 0)
        rest = self.split == 'train'
        if held_out == (count if rest else 0):
            raise Refused(f'held_out={self.held_out} of {count} images leaves '
                          f'no image for split={self.split!r}: two or more '
                          'are needed, and a share between 0 and 1')
        folder = tree.layout.folders[place]
        return units, lowest(
            lambda unit: tree.images.hashes(units[unit], folder), counts,
            held_out), rest

    def _classes(self, chosen):
        """Names of the classes of training and validation, in order."""
        for tree, units, *_ in chosen:
            if tree.doubt:
                raise Refused(f'{tree.images.root}: {tree.doubt}')
            if path := tree.unlabelled(units):
                raise Refused(path + (
                    ' has no .cls or label beside it: add it' if tree.images.
                    in_shards else ' lies in no class folder: move it into '
                    'one') + ', or set with_label=False')
        train, val = (
            set().union(*(tree.classes(split) for tree, *_ in chosen)) - {''}
            for split in ('train', 'val'))
        if self.with_label and train and val - train:
            only = first_few(sorted(val - train))
            raise Refused(
                f'{only} of the validation images are no classes of the '
                f'training images, which are {first_few(sorted(train))}: '
                'rename or remove their folders')
        return _in_order(train | val,
                         all(tree.images.in_shards for tree, *_ in chosen))

    def _source(self, trees, count, classes):
        """A line: which folders were read, and what is in them."""
        places = [tree.place_of(self.split) for tree in trees]
        folders = ', '.join(
            os.path.join(tree.images.root, tree.layout.folders[place]).rstrip(
                os.sep) for tree, place in zip(trees, places))
        shares = self.held_out > 0 and any(
            tree.place_of('train') == tree.place_of('val') for tree in trees)
        line = f'{self.split}: {count:,} images '
        line += 'held out ' * (shares and self.split != 'train')
        line += f'of {folders}, '
        line += 'without those held out, ' * (shares and self.split == 'train')
        line += (f'in {len(classes):,} classes ({first_few(classes)})'
                 if classes else 'without labels')
        if classes:
            here = set().union(*(tree.classes(self.split) for tree in trees))
            if missing := {*classes} - here:
                line += f'; none of {first_few(sorted(missing))}'
        left_out = sorted({f for tree in trees for f in tree.left_out})
        if left_out:
            line += f'; left out: {first_few(left_out)}'
        return line


def _in_order(names, are_numbers):
    """The classes of some labels; numbers, if they are, from 0 without a gap.
    """
    if are_numbers and all(map(str.isdecimal, names)):
        numbers = [*map(int, names)]
        if max(numbers, default=0) < MAX_CLASSES:
            return tuple(map(str, range(max(numbers, default=-1) + 1)))
    return tuple(sorted(names))


class _Tree:
    """What was listed below one root, by splits and classes.

    Attributes:
        images: as `FolderImages` or `ShardImages`.
        units (dict): split -> numbers of its units. The split is None if no
            folder is one.
        names (list[str]): the name of each label, '' of none, which is the
            last one.
        doubt (str): why other folders can be the classes; '' if none can.
        left_out (set[str]): folders with images that are of no split, and what
            else is not among the images.
    """

    def __init__(self, root, splits):
        self.images = images = open_root(root)
        counts = defaultdict(int)
        for folder, count in zip(images.folders, images.counts):
            counts[folder] += int(count)
        self.layout = find_splits(counts, splits)
        places = self.layout.places
        self.units, self.left_out = defaultdict(list), {*images.left_out}
        for unit, folder in enumerate(images.folders):
            if folder in places:
                self.units[places[folder][0]].append(unit)
            else:
                self.left_out.add(os.path.join(images.root, folder))
        if images.in_shards:
            self.names, self.doubt = [*images.label_names, ''], ''
        else:
            self.names = [places.get(f, (None, ''))[1] for f in images.folders]
            self.names, self.doubt = [*self.names, ''], self.layout.doubt

    @property
    def has_splits(self):
        return None not in self.layout.folders

    @property
    def has_sure_labels(self):
        """Whether nothing but classes can be meant."""
        return self.images.in_shards or (self.has_splits and not self.doubt)

    def place_of(self, split):
        """Which split's folder the images of a split are in.

        Those of `val` may be in the folder of `test` or, as a share, in that
        of `train`.
        """
        named = self.layout.folders
        if not self.has_splits:
            return None
        if split == 'train' or split in named:
            return split
        if split == 'test' or 'test' not in named:
            return 'val' if 'val' in named else 'train'
        labelled = any(
            self._names_in('test')) or not any(self._names_in('train'))
        return 'test' if labelled else 'train'

    def classes(self, split):
        """Names of the classes of a split, with '' if images have none."""
        return self._names_in(self.place_of(split))

    def numbers(self, classes):
        """The number of the class of each label, int64; -1 if it has none.

        Args:
            classes (dict): name -> number.
        """
        return np.array([classes.get(name, -1) for name in self.names])

    def unlabelled(self, units):
        """The first image without a class; None if all have one."""
        without = np.array([not name for name in self.names])
        for unit in units:
            places = np.flatnonzero(without[self.images.labels(unit)])
            if places.size:
                return self.images.path(unit, places[0])
        return None

    def _names_in(self, place):
        labels = self.images.distinct_labels(self.units[place])
        return {self.names[label] for label in labels}
