"""Folders of images: any layout, any mode, the broken ones skipped."""
import hashlib
import io
import os
import random
import stat
from contextlib import contextmanager
from math import ceil, exp, log, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import BaseDataset
from mmengine.dist import broadcast_object_list, is_main_process
from mmpretrain.datasets import RandomResizedCrop
from PIL import Image, ImageOps, UnidentifiedImageError

from mmfd.data import decode
from mmfd.data.sampler import Draw
from mmfd.data.scan import SUFFIXES, find_images
from mmfd.errors import Refused
from mmfd.registry import DATASETS, TRANSFORMS

TRIES = 100  # for an image in place of a broken one
PILLOW = dict(
    bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC)
# All that SUFFIXES mean, whichever of them a file has. Pillow knows more, and
# hands PostScript to a program that runs it.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'PPM', 'GIF')
BYTES = 16  # of a file, at most, for a pixel
MAX_PIXELS = 100_000_000


class BrokenImage(ValueError):
    """A file that cannot be read as an image."""


@TRANSFORMS.register_module()
class LoadImage:
    """Read an image of any mode as BGR uint8 (H, W, 3), upright.

    The pixels are those that Pillow decodes, as in the official code. Alpha
    is dropped, 16 bits are cut to 8. What the host's inferencer has read
    already stays.

    Args:
        max_pixels (int): of an image, before it is decoded: a small file can
            say that it is of any size. Eleven bytes of memory for each.

    Raises:
        BrokenImage: if the file cannot be read.
    """

    def __init__(self, max_pixels=MAX_PIXELS):
        self.max_pixels = max_pixels

    def __call__(self, results):
        if 'img' in results:
            return results
        with _or_broken():
            data = _read(results['img_path'], self.max_pixels)
            pixels = _decode(data, self.max_pixels)
        return dict(
            results,
            img=pixels,
            img_shape=pixels.shape[:2],
            ori_shape=pixels.shape[:2])


@TRANSFORMS.register_module()
class LoadCrop:
    """Read one crop of an image, resized: `LoadImage` and a crop in one.

    The crop is drawn from the size in the header. A JPEG is decoded at 1/2,
    1/4 or 1/8 of its size (libjpeg's DCT scaling) as long as that leaves the
    crop `gap` times the size that it is to have. Always antialiased.

    Args:
        crop (dict): which crop: a config of `mmpretrain.RandomResizedCrop` or
            `mmfd.ClampedCrop`. Its boxes, `scale` and `interpolation` count,
            its `backend` does not.
        gap (float): 2 changes a pixel by less than 1 of 255 on average.
        max_pixels (int): as of `LoadImage`.

    Raises:
        BrokenImage: if the file cannot be read.
        Refused: if the interpolation is neither bilinear nor bicubic.
    """

    def __init__(self, crop, gap=2.0, max_pixels=MAX_PIXELS):
        self.crop = TRANSFORMS.build(crop)
        self.gap = gap
        self.max_pixels = max_pixels
        if self.crop.interpolation not in PILLOW:
            raise Refused(f'interpolation={self.crop.interpolation!r} is not '
                          f'antialiased here: set it to {" or ".join(PILLOW)}')

    def __call__(self, results):
        with _or_broken():
            data = _read(results['img_path'], self.max_pixels)
            size = decode.plain_size(data, self.max_pixels)
            image = None if size else _decode(data, self.max_pixels)
            size = size or image.shape[:2]
            box = self.crop.rand_crop_params(np.broadcast_to(0, size))
            small = self._reduced(data, size, box) if image is None else None
            if small is None:
                top, left, height, width = box
                image = (
                    _decode(data, self.max_pixels) if image is None else image)
                small = self._resized(image[top:top + height,
                                            left:left + width])
        return dict(results, img=small, img_shape=small.shape, ori_shape=size)

    def _resized(self, pixels):
        """(h, w, 3) to the crop's own size; Pillow's numbers, faster."""
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
        return F.interpolate(
            pixels.permute(2, 0, 1)[None],
            tuple(self.crop.scale),
            mode=self.crop.interpolation,
            antialias=True)[0].permute(1, 2, 0).numpy()

    def _reduced(self, data, size, box):
        """The crop, resized, of a JPEG that can be decoded smaller."""
        height, width = self.crop.scale
        least = [
            ceil(self.gap * side * whole / part)
            for side, whole, part in zip((width,
                                          height), size[::-1], box[:1:-1])
        ]
        if 2 * least[0] > size[1] or 2 * least[1] > size[0]:
            return None
        image = _open(data, self.max_pixels)
        _, (_, _, right, bottom) = image.draft(None, least)
        x, y = right / size[1], bottom / size[0]
        top, left, h, w = box
        small = image.convert('RGB').resize(
            (width, height),
            PILLOW[self.crop.interpolation],
            box=(left * x, top * y, (left + w) * x, (top + h) * y))
        return np.array(small)[..., ::-1]


@contextmanager
def _or_broken():
    try:
        yield
    except Exception as error:  # a decoder may raise anything
        raise BrokenImage(_reason(error)) from None


def _read(path, max_pixels):
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # such as a pipe: no end
        raise Refused('it is no regular file')
    if status.st_size > BYTES * max_pixels:
        raise Refused(f'it has {status.st_size:,} bytes, more than an '
                      f'image of max_pixels={max_pixels:,}')
    with open(path, 'rb') as file:
        return file.read()


def _open(data, max_pixels):
    Image.MAX_IMAGE_PIXELS = None  # our limit is in its place
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if not 0 < image.width * image.height <= max_pixels:
        raise Refused(f'it has {image.width} x {image.height} pixels; '
                      f'max_pixels={max_pixels:,} of mmfd.LoadImage or '
                      'mmfd.LoadCrop sets the limit')
    return image


def _decode(data, max_pixels):
    """The whole image as BGR uint8 (H, W, 3)."""
    pixels = decode.decode(data, max_pixels)
    if pixels is None:
        pixels = np.array(_to_rgb(_open(data, max_pixels)))[..., ::-1]
    return pixels


def _reason(error):
    if isinstance(error, UnidentifiedImageError):
        return f'it is none of {", ".join(FORMATS)}'
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__


def _to_rgb(image):
    image = ImageOps.exif_transpose(image)
    if image.mode == 'F':
        raise Refused('it holds floating-point numbers of unknown range')
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
    `mmfd.SkippedImagesHook` to count.

    Args:
        data_root (str or list[str]): folder or folders.
        split (str): `train` or `val`.
        pipeline (list[dict]): transforms, from `mmfd.LoadImage` on.
        with_label (bool): whether the first folder of a path is the image's
            class. None: in an ImageNet tree whose images all lie in one.
        held_out (float): share of images that is `val` where no folder is.
        indices (int or list[int]): take only the first so many, or these.

    Raises:
        Refused: if there is no such folder, no image in it, or
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
            raise Refused(f"split={split!r}: set it to 'train' or 'val'")
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
            raise Refused(f'{lost} lies in no class folder: move it into '
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
            raise Refused(
                f'no images in {folder} (looked for {", ".join(SUFFIXES)}): '
                'name another with --data-root')
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
            raise Refused(
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
            Refused: if no other image can be read either.
        """
        if isinstance(index, Draw):
            index.seed_all()
        index = int(index)
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
                raise Refused(
                    f'{TRIES} draws from {len(self)} images gave none that '
                    f'can be read, the last one {path}: {reason}. Set '
                    'data_root to a folder with fewer broken files, or '
                    'held_out to a larger share')
            index = draw.randrange(len(self))


def _hash(path):
    return hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
