"""A data set of the images below folders; no list and no labels needed."""
import hashlib
import os
import random

from mmengine.dataset import BaseDataset
from mmengine.dist import broadcast_object_list, is_main_process

from mmfd.data.away import wait_until_back
from mmfd.data.decode import BrokenImage
from mmfd.data.sampler import SeededIndex
from mmfd.data.scan import SUFFIXES, find_images
from mmfd.errors import Refused
from mmfd.files import os_errors_refused
from mmfd.registry import DATASETS

MAX_BROKEN = 100  # images that are tried in the place of one


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """The images below one or several folders.

    A root with a folder `train` is an ImageNet tree: its splits are `train`
    and, where there is one, `val`. Elsewhere a share of the images is held
    out as `val`, chosen by a hash of their paths, so that the split is the
    same in every run and hardly changes when images are added.

    Another image takes the place of a broken one, the same in every epoch.
    `data_samples.skipped` lists the broken ones as (path, reason), for
    `mmfd.SkippedImagesHook`. Images are not broken while their folder or file
    system is away, such as a mount that drops: they are waited for.

    Args:
        data_root (str or list[str]): folder or folders.
        split (str): `train` or `val`.
        pipeline (list[dict]): transforms, from `mmfd.LoadImage` on.
        with_label (bool): whether the first folder of a path is the class of
            the image. None: yes, if every root is an ImageNet tree and every
            image lies in a folder of it.
        held_out (float): share of the images, 0-1, that is `val` where no
            folder is.
        indices (int or list[int]): take only the first so many, or these.
        max_wait (float): seconds to wait for images that are away.

    Raises:
        Refused: if there is no such folder, no image in it, or no label where
            one is needed.
    """

    def __init__(self,
                 data_root,
                 split,
                 pipeline,
                 with_label=None,
                 held_out=0.01,
                 indices=None,
                 max_wait=600.):
        if split not in ('train', 'val'):
            raise Refused(f"split={split!r}: set it to 'train' or 'val'")
        self.roots = [data_root] if isinstance(data_root, str) else data_root
        self.split = split
        self.with_label = with_label
        self.held_out = held_out
        self.max_wait = max_wait
        # one process scans, and sends the others all
        images_and_classes = [self._scan() if is_main_process() else None]
        broadcast_object_list(images_and_classes)
        self.images, classes = images_and_classes[0]
        super().__init__(
            metainfo=dict(classes=classes), pipeline=pipeline, indices=indices)

    def load_data_list(self):
        """Called by the host, which keeps the list in its own way."""
        images, self.images = self.images, None
        return images

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
        """Images, as the host wants them, and names of classes."""
        trees = [os.path.isdir(os.path.join(r, 'train')) for r in self.roots]
        images = [
            image for root, tree in zip(self.roots, trees)
            for image in self._images_of(root, tree)
        ]
        with_label = self.with_label
        if with_label is None:
            with_label = all(trees) and all(name for name, _ in images)
        if not with_label:
            return [dict(img_path=path) for _, path in images], ()
        classes = self._classes(trees)
        numbers = {name: number for number, name in enumerate(classes)}
        for name, path in images:
            if name not in numbers:
                raise Refused(f'{path} lies in no class folder: move it into '
                              'one, or set with_label=False')
        return [
            dict(img_path=path, gt_label=numbers[name])
            for name, path in images
        ], classes

    def _images_of(self, root, tree):
        """(first folder, path) of the images of this split below a root."""
        folder = os.path.join(root, 'train') if tree else root
        val = os.path.join(root, 'val')
        has_val = tree and os.path.isdir(val)
        if has_val and self.split == 'val':
            folder = val
        paths = find_images(folder)
        if not paths:
            raise Refused(
                f'no images in {folder} (looked for {", ".join(SUFFIXES)}): '
                'name another with --data-root')
        for path in paths if has_val else self._share_of(paths):
            first, _, rest = path.partition(os.sep)
            yield first if rest else '', os.path.join(folder, path)

    def _share_of(self, paths):
        """The images of this split, where no folder says which."""
        by_hash = sorted(paths, key=_hash)
        count = max(round(self.held_out * len(paths)), self.held_out > 0)
        share = by_hash[:count] if self.split == 'val' else by_hash[count:]
        if not share:
            raise Refused(
                f'held_out={self.held_out} of {len(paths)} images leaves no '
                f'image for split={self.split!r}')
        return sorted(share)

    def _classes(self, trees):
        """Sorted names of the class folders of both splits."""
        folders = [
            os.path.join(root, split) for root, tree in zip(self.roots, trees)
            for split in (('train', 'val') if tree else ('', ))
        ]
        names = set()
        for folder in filter(os.path.isdir, folders):
            with os_errors_refused(
                    f'cannot list the image folder {folder}',
                    'grant the right to read it, or name another with '
                    '--data-root'):
                names |= {
                    entry.name
                    for entry in os.scandir(folder)
                    if entry.is_dir() and not entry.name.startswith('.')
                }
        return tuple(sorted(names))


def _hash(path):
    return hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
