"""Folders of images: any layout, any mode, the broken ones skipped."""
import hashlib
import io
import os
import random
import stat
from math import exp, log, sqrt

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import broadcast_object_list, is_main_process
from mmpretrain.datasets import RandomResizedCrop
from PIL import Image, ImageOps, UnidentifiedImageError

from mmfd.registry import DATASETS, TRANSFORMS
from mmfd.scan import SUFFIXES, find_images

TRIES = 100  # for an image in place of a broken one
# All that SUFFIXES mean, whichever of them a file has. Pillow knows more, and
# hands PostScript to a program that runs it.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'PPM', 'GIF')
BYTES = 16  # of a file, at most, for a pixel


class BrokenImage(ValueError):
    """A file that cannot be read as an image."""


@TRANSFORMS.register_module()
class LoadImage:
    """Read an image of any mode as BGR uint8 (H, W, 3), upright.

    Pillow decodes, as in the official code: unlike OpenCV it refuses a file
    that ends too early. Alpha is dropped, 16 bits are cut to 8.

    Args:
        max_pixels (int): of an image, before it is decoded: a small file can
            say that it is of any size. Eleven bytes of memory for each.

    Raises:
        BrokenImage: if the file cannot be read.
    """

    def __init__(self, max_pixels=100_000_000):
        self.max_pixels = max_pixels

    def __call__(self, results):
        try:
            image = self._open(results['img_path'])
            pixels = np.array(_to_rgb(image))[..., ::-1]
        except Exception as error:  # a decoder may raise anything
            raise BrokenImage(_reason(error)) from None
        return dict(
            results,
            img=pixels,
            img_shape=pixels.shape[:2],
            ori_shape=pixels.shape[:2])

    def _open(self, path):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # such as a pipe: no end
            raise ValueError('it is no regular file')
        if status.st_size > BYTES * self.max_pixels:
            raise ValueError(f'it has {status.st_size:,} bytes, more than an '
                             f'image of max_pixels={self.max_pixels:,}')
        Image.MAX_IMAGE_PIXELS = None  # our limit is in its place
        with open(path, 'rb') as file:
            image = Image.open(io.BytesIO(file.read()), formats=FORMATS)
        if not 0 < image.width * image.height <= self.max_pixels:
            raise ValueError(f'it has {image.width} x {image.height} pixels; '
                             f'max_pixels={self.max_pixels:,} of '
                             'mmfd.LoadImage sets the limit')
        return image


def _reason(error):
    if isinstance(error, UnidentifiedImageError):
        return f'it is none of {", ".join(FORMATS)}'
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__


def _to_rgb(image):
    image = ImageOps.exif_transpose(image)
    if image.mode == 'F':
        raise ValueError('it holds floating-point numbers of unknown range')
    if image.mode.startswith('I'):  # 16 bits, in 32 with some formats
        grey = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
    if image.mode == 'P':  # maybe with transparency of its own kind
        image = image.convert('RGBA')
    return image.convert('RGB')


@TRANSFORMS.register_module()
class ClampedCrop(RandomResizedCrop):
    """A random crop that is cut to the image where it would stick out.

    As BYOL and MAE crop for the linear probe (official `data_linear.py`).
    The host's, like torchvision's, draws again instead, and so has fewer
    crops that are both large and long.
    """

    def rand_crop_params(self, img):
        """Image (H, W, 3) to (top, left, height, width)."""
        height, width = img.shape[:2]
        area = height * width * np.random.uniform(*self.crop_ratio_range)
        aspect = exp(np.random.uniform(*map(log, self.aspect_ratio_range)))
        w = min(round(sqrt(area * aspect)), width)
        h = min(round(sqrt(area / aspect)), height)
        top = np.random.randint(height - h + 1)
        left = np.random.randint(width - w + 1)
        return top, left, h, w


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """The images below one or several folders; no list, no labels needed.

    A root with a folder `train` is an ImageNet tree: its splits are `train`
    and, where there is one, `val`. Of any other folder, and of a tree without
    `val`, the images are held out by a hash of their path, so the split is
    the same in every run and barely moves when images are added.

    A broken image is replaced by another one, the same in every epoch, and
    noted in `data_samples.skipped` as [(path, reason)], for
    `mmfd.SkippedImages` to count.

    Args:
        data_root (str or list[str]): folder or folders.
        split (str): `train` or `val`.
        pipeline (list[dict]): transforms, from `mmfd.LoadImage` on.
        with_label (bool): whether the first folder of a path is the image's
            class. None: in an ImageNet tree whose images all lie in one.
        held_out (float): share of images that is `val` where no folder is.
        indices (int or list[int]): take only the first so many, or these.

    Raises:
        OSError, ValueError: if there is no such folder, no image in it, or
            no label where one is wanted.
    """

    def __init__(self,
                 data_root,
                 split,
                 pipeline,
                 with_label=None,
                 held_out=0.01,
                 indices=None):
        if split not in ('train', 'val'):
            raise ValueError(f"split={split!r}: set it to 'train' or 'val'")
        self.roots = [data_root] if isinstance(data_root, str) else data_root
        self.split = split
        self.with_label = with_label
        self.held_out = held_out
        super().__init__(pipeline=pipeline, indices=indices)

    def load_data_list(self):
        """Scan in one process, and tell the others."""
        found = [self._scan() if is_main_process() else None]
        broadcast_object_list(found)
        images, self._metainfo['classes'] = found[0]
        return images

    def _scan(self):
        trees = [os.path.isdir(os.path.join(r, 'train')) for r in self.roots]
        images = [
            image for root, tree in zip(self.roots, trees)
            for image in self._scan_root(root, tree)
        ]
        with_label = self.with_label
        if with_label is None:
            with_label = all(trees) and all(name for name, _ in images)
        if not with_label:
            return [dict(img_path=path) for _, path in images], ()
        classes = self._classes(trees)
        numbers = {name: number for number, name in enumerate(classes)}
        lost = next((p for name, p in images if name not in numbers), None)
        if lost:
            raise ValueError(f'{lost} lies in no class folder: move it into '
                             'one, or set with_label=False')
        return [
            dict(img_path=path, gt_label=numbers[name])
            for name, path in images
        ], classes

    def _scan_root(self, root, tree):
        """(first folder, path) of the images of this split below a root."""
        folder = os.path.join(root, 'train') if tree else root
        own = os.path.join(root, 'val')
        shared = not (tree and os.path.isdir(own))
        if not shared and self.split == 'val':
            folder = own
        found = find_images(folder)
        if not found:
            raise FileNotFoundError(
                f'no images in {folder} (looked for {", ".join(SUFFIXES)}): '
                'set data_root')
        if shared:
            found = self._share(found)
        for path in found:
            first, _, rest = path.partition(os.sep)
            yield first if rest else '', os.path.join(folder, path)

    def _share(self, found):
        """This split's part of the images that have no folder for it."""
        by_hash = sorted(found, key=_hash)
        count = max(round(self.held_out * len(found)), self.held_out > 0)
        part = by_hash[:count] if self.split == 'val' else by_hash[count:]
        if not part:
            raise ValueError(
                f'held_out={self.held_out} of {len(found)} images leaves no '
                f'image for split={self.split!r}')
        return sorted(part)

    def _classes(self, trees):
        """Sorted names; the same for both splits."""
        folders = [
            os.path.join(root, split) for root, tree in zip(self.roots, trees)
            for split in (('train', 'val') if tree else ('', ))
        ]
        return tuple(
            sorted({
                entry.name
                for folder in folders if os.path.isdir(folder)
                for entry in os.scandir(folder)
                if entry.is_dir() and not entry.name.startswith('.')
            }))

    def __getitem__(self, index):
        """The sample, or another one in place of what cannot be read.

        Raises:
            ValueError: if no other image can be read either.
        """
        skipped, draw = [], random.Random(index)
        while True:
            info = self.get_data_info(index)
            try:
                sample = self.pipeline(info)
            except BrokenImage as error:
                skipped.append((info['img_path'], str(error)))
            else:
                sample['data_samples'].set_metainfo(dict(skipped=skipped))
                return sample
            if len(skipped) == TRIES:
                path, reason = skipped[-1]
                raise ValueError(
                    f'{TRIES} draws from {len(self)} images gave none that '
                    f'can be read, the last one {path}: {reason}. Set '
                    'data_root to a folder with fewer broken files, or '
                    'held_out to a larger share')
            index = draw.randrange(len(self))


def _hash(path):
    return hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
