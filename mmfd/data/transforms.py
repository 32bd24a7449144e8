"""Transforms: read an image, whole or a crop of it; crop it at random."""
from math import ceil, exp, log, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.datasets import RandomResizedCrop
from PIL import Image

from mmfd.data.decode import (MAX_PIXELS, check_value_range, decode,
                              errors_as_broken_image, open_image,
                              plain_jpeg_size, read)
from mmfd.errors import Refused
from mmfd.registry import TRANSFORMS

PILLOW = dict(
    bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC)


@TRANSFORMS.register_module()
class LoadImage:
    """Read an image of any mode as BGR uint8 (H, W, 3), upright.

    The pixels are those that Pillow decodes, as in the official code. Alpha
    is dropped, more bits are brought to 8. An image that the host's inferencer
    has read before is left as it is.

    Args:
        max_pixels (int): of an image. A small file can claim any size, so it
            is checked before memory is taken, 11 bytes for each pixel.
        value_range (tuple[float]): the values of black and white in images of
            more than 8 bits: (0, 4095) for 12 bits in a 16-bit file. None:
            all 16 bits; floats, and 32 bits of 0-255, have no known range.

    Raises:
        BrokenImage: if the file cannot be read.
    """

    def __init__(self, max_pixels=MAX_PIXELS, value_range=None):
        self.max_pixels = max_pixels
        self.value_range = value_range
        check_value_range(value_range)

    def __call__(self, results):
        if 'img' in results:
            return results
        with errors_as_broken_image():
            data = read(results['img_path'], self.max_pixels)
            pixels = decode(data, self.max_pixels, self.value_range)
        return dict(
            results,
            img=pixels,
            img_shape=pixels.shape[:2],
            ori_shape=pixels.shape[:2])


@TRANSFORMS.register_module()
class LoadCrop:
    """Read a random crop of an image, resized: `LoadImage` and a crop in one.

    The crop is drawn from the size in the header. A JPEG is then decoded at
    1/2, 1/4 or 1/8 of its size (libjpeg's DCT scaling), as long as the crop
    stays `gap` times larger than what it is resized to. Always antialiased.

    Args:
        crop (dict): config of `mmpretrain.RandomResizedCrop` or
            `mmfd.ClampedCrop`. Its boxes, `scale` and `interpolation` are
            used; its `backend` is not.
        gap (float): 2 changes a pixel by less than 1 of 255 on average.
        max_pixels (int), value_range (tuple[float]): as in `LoadImage`.

    Raises:
        BrokenImage: if the file cannot be read.
        Refused: if the interpolation is neither bilinear nor bicubic.
    """

    def __init__(self, crop, gap=2.0, max_pixels=MAX_PIXELS, value_range=None):
        self.crop = TRANSFORMS.build(crop)
        self.gap = gap
        self.max_pixels = max_pixels
        self.value_range = value_range
        check_value_range(value_range)
        if self.crop.interpolation not in PILLOW:
            raise Refused(f'interpolation={self.crop.interpolation!r} is not '
                          f'antialiased here: set it to {" or ".join(PILLOW)}')

    def __call__(self, results):
        with errors_as_broken_image():
            data = read(results['img_path'], self.max_pixels)
            size = plain_jpeg_size(data, self.max_pixels)
            image = None if size else decode(data, self.max_pixels,
                                             self.value_range)
            size = size or image.shape[:2]
            box = self.crop.rand_crop_params(np.broadcast_to(0, size))
            crop = None if image is not None else self._decode_smaller(
                data, size, box)
            if crop is None:
                if image is None:
                    image = decode(data, self.max_pixels)
                top, left, height, width = box
                crop = self._resize(image[top:top + height, left:left + width])
        return dict(results, img=crop, img_shape=crop.shape, ori_shape=size)

    def _decode_smaller(self, data, size, box):
        """The resized crop of a plain JPEG; None if it must be decoded whole.

        Args:
            size (tuple[int]): (height, width) of the image.
            box (tuple[int]): (top, left, height, width) of the crop.
        """
        height, width = self.crop.scale
        smallest = [  # (width, height) that the image is decoded to
            ceil(self.gap * side * whole / part)
            for side, whole, part in zip((width,
                                          height), size[::-1], box[:1:-1])
        ]
        if 2 * smallest[0] > size[1] or 2 * smallest[1] > size[0]:
            return None
        image = open_image(data, self.max_pixels)
        _, (_, _, right, bottom) = image.draft(None, smallest)
        x, y = right / size[1], bottom / size[0]
        top, left, h, w = box
        crop = image.convert('RGB').resize(
            (width, height),
            PILLOW[self.crop.interpolation],
            box=(left * x, top * y, (left + w) * x, (top + h) * y))
        return np.array(crop)[..., ::-1]

    def _resize(self, pixels):
        """(h, w, 3) to the size of the crop: Pillow's numbers, faster."""
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
        return F.interpolate(
            pixels.permute(2, 0, 1)[None],
            tuple(self.crop.scale),
            mode=self.crop.interpolation,
            antialias=True)[0].permute(1, 2, 0).numpy()


@TRANSFORMS.register_module()
class ClampedCrop(RandomResizedCrop):
    """A random crop that is cut off where it would stick out of the image.

    As BYOL and MAE crop for the linear probe (official `data_linear.py`). The
    host's crop, like torchvision's, is drawn again instead, which leaves fewer
    crops that are both large and long.
    """

    def rand_crop_params(self, img):
        """Draw (top, left, height, width) for an image (H, W, 3)."""
        height, width = img.shape[:2]
        area = height * width * np.random.uniform(*self.crop_ratio_range)
        aspect = exp(np.random.uniform(*map(log, self.aspect_ratio_range)))
        w = min(round(sqrt(area * aspect)), width)
        h = min(round(sqrt(area / aspect)), height)
        top = np.random.randint(height - h + 1)
        left = np.random.randint(width - w + 1)
        return top, left, h, w
