"""A data set of the images below folders; no list and no labels needed."""
import hashlib
import os
import random
from collections import defaultdict

from mmengine.dataset import BaseDataset
from mmengine.dist import broadcast_object_list, is_main_process

from mmfd.data.away import wait_until_back
from mmfd.data.decode import BrokenImage
from mmfd.data.sampler import SeededIndex
from mmfd.data.scan import SUFFIXES, find_images
from mmfd.data.splits import WORDS, find_splits, without_masks
from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.registry import DATASETS
from mmfd.weights.weight_files import first_few

MAX_BROKEN = 100  # images that are tried in the place of one


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """The images below one or several folders.

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
    `mmfd.SkippedImagesHook`. Images are not broken while their folder or file
    system is away, such as a mount that drops: they are waited for.

    Args:
        data_root (str or list[str]): folder or folders.
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
        # one process scans, and sends the others all
        scanned = [self._scan() if is_main_process() else None]
        broadcast_object_list(scanned)
        self.images, classes, self.source, self.sum = scanned[0]
        if pipeline and is_main_process():  # else it is only looked at
            log.info(self.source)
        super().__init__(
            metainfo=dict(classes=classes), pipeline=pipeline, indices=indices)

    def load_data_list(self):
        """Called by the host, which keeps the list in its own way."""
        images, self.images = self.images, None
        return images

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
                sample['data_samples'].set_metainfo(dict(skipped=skipped))
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
        return wait_until_back(self.roots, another, self.max_wait)

    def _scan(self):
        """Images, as the host wants them, classes, `source` and their sum."""
        trees = [_Tree(root, self.splits) for root in self.roots]
        images = [image for tree in trees for image in self._images_of(tree)]
        with_label = self.with_label
        if with_label is None:
            sure = all(t.has_splits and not t.layout.doubt for t in trees)
            with_label = sure and all(label for label, _ in images)
        classes = self._classes(trees, images) if with_label else ()
        source = self._source(trees, len(images), classes)
        numbers = {name: number for number, name in enumerate(classes)}
        found = [
            dict(img_path=path, gt_label=numbers[label])
            if with_label else dict(img_path=path) for label, path in images
        ]
        return found, classes, source, self._sum(found)

    def _sum(self, images):
        digest = hashlib.blake2b()
        for image in images:
            path = image['img_path']
            root = next(r for r in self.roots if path.startswith(r))
            name = os.fsencode(path[len(root):].lstrip(os.sep))
            digest.update(b'%d %b\0' % (image.get('gt_label', -1), name))
        return digest.hexdigest()

    def _images_of(self, tree):
        """(class, path) of the images of this split below a root."""
        place = tree.place_of(self.split)
        paths = tree.images[place]
        if not paths:
            raise Refused(
                f'{tree.root} has no images to train on, only the splits '
                f'{", ".join(sorted(tree.images))}: name another with '
                '--data-root, or set dataset.splits')
        other = 'val' if self.split == 'train' else 'train'
        if place == tree.place_of(other):  # one folder for both
            paths = self._share_of(paths, tree.layout.folders[place])
        for path in paths:
            yield tree.label_of(path), os.path.join(tree.root, path)

    def _share_of(self, paths, folder):
        """The images of this split, where no folder says which."""
        by_hash = sorted(
            paths, key=lambda path: _hash(path.removeprefix(folder + os.sep)))
        count = max(round(self.held_out * len(paths)), self.held_out > 0)
        share = by_hash[count:] if self.split == 'train' else by_hash[:count]
        if not share:
            raise Refused(
                f'held_out={self.held_out} of {len(paths)} images leaves no '
                f'image for split={self.split!r}')
        return sorted(share)

    def _classes(self, trees, images):
        """Sorted names of the classes of training and validation."""
        for tree in trees:
            if tree.layout.doubt:
                raise Refused(f'{tree.root}: {tree.layout.doubt}')
        for label, path in images:
            if not label:
                raise Refused(f'{path} lies in no class folder: move it into '
                              'one, or set with_label=False')
        train, val = (
            set().union(*(tree.classes(split) for tree in trees)) - {''}
            for split in ('train', 'val'))
        if self.with_label and train and val - train:
            only = first_few(sorted(val - train))
            raise Refused(
                f'{only} of the validation images are no classes of the '
                f'training images, which are {first_few(sorted(train))}: '
                'rename or remove their folders')
        return tuple(sorted(train | val))

    def _source(self, trees, count, classes):
        """A line: which folders were read, and what is in them."""
        places = [tree.place_of(self.split) for tree in trees]
        folders = ', '.join(
            os.path.join(tree.root, tree.layout.folders[place]).rstrip(os.sep)
            for tree, place in zip(trees, places))
        shares = self.held_out > 0 and any(
            tree.place_of('train') == tree.place_of('val') for tree in trees)
        line = f'{self.split}: {count:,} images '
        line += 'held out ' * (shares and self.split != 'train')
        line += f'of {folders}, '
        line += 'without those held out, ' * (shares and self.split == 'train')
        line += (f'in {len(classes):,} classes ({first_few(classes)})'
                 if classes else 'without labels')
        here = set().union(*(tree.classes(self.split) for tree in trees))
        if classes and {*classes} - here:
            line += f'; none of {first_few(sorted({*classes} - here))}'
        left_out = sorted({f for tree in trees for f in tree.left_out})
        if left_out:
            line += f'; left out: {first_few(left_out)}'
        return line


class _Tree:
    """The images below one root, by their splits.

    Attributes:
        images (dict): split -> paths relative to the root, sorted. The split
            is None if no folder is one.
        left_out (set[str]): folders with images that are of no split, and how
            many masks lie beside their images.
    """

    def __init__(self, root, splits):
        paths = find_images(root)
        if not paths:
            raise Refused(
                f'no images in {root} (looked for {", ".join(SUFFIXES)}): '
                'name another with --data-root')
        self.root = root
        paths, masks = without_masks(paths)
        self.layout = find_splits(paths, splits)
        self.images, self.left_out = defaultdict(list), set()
        if masks:
            self.left_out.add(f'{masks:,} masks beside their images')
        for path in paths:
            folder = os.path.dirname(path)
            if folder in self.layout.places:
                split, _ = self.layout.places[folder]
                self.images[split].append(path)
            else:
                self.left_out.add(os.path.join(root, folder))

    @property
    def has_splits(self):
        return None not in self.layout.folders

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
        labelled = self.layout.has_classes
        return 'test' if labelled('test') or not labelled('train') else 'train'

    def label_of(self, path):
        return self.layout.places[os.path.dirname(path)][1]

    def classes(self, split):
        return self.layout.classes(self.place_of(split))


def _hash(path):
    return hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
