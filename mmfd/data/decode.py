"""From an image file to its pixels.

Plain JPEGs are decoded by OpenCV, which copies less, all else by Pillow. Both
use libjpeg and give the same pixels. But OpenCV fills the missing end of a
truncated JPEG with grey, so it gets no file that may be truncated.
"""
import io
import os
import stat
from contextlib import contextmanager

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmfd.data.stored import StoredImage
from mmfd.errors import Refused

MAX_PIXELS = 100_000_000  # of an image
BYTES_PER_PIXEL = 16  # of a file, at most
# What the suffixes in `scan` mean, whichever of them a file has. Pillow reads
# more, such as PostScript, for which it calls a program that runs it.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'PPM', 'GIF')

# Markers of a JPEG
START, END = b'\xff\xd8', b'\xff\xd9'
FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
TABLES = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # before the frame
APP1 = 0xE1  # Exif or XMP, which may say that the image lies on its side
ORIENTATION = 0x0112  # Exif
# Tags of a TIFF: bits of each sample, what the samples mean, how they lie
BITS, MEANING, LAYOUT = 258, 262, 284
WHITE_IS_ZERO, ONE_AFTER_ANOTHER = 0, 2
FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class BrokenImage(Refused):
    """A file that cannot be read as an image; the message says why.

    Attributes:
        unread (bool): the system did not give its content, such as of a file
            that is gone; else the content is no image.
    """
    unread = False


@contextmanager
def errors_as_broken_image():
    """Raise BrokenImage in the place of whatever a decoder raises."""
    try:
        yield
    except Exception as error:
        broken = BrokenImage(_reason(error))
        # Pillow raises an OSError without a number for what it cannot decode
        broken.unread = isinstance(error, OSError) and bool(error.errno)
        raise broken from None


def read(path, max_pixels):
    """The bytes of a file, if an image of `max_pixels` can have so many."""
    if isinstance(path, StoredImage):
        return path.content(lambda size: _check_bytes(size, max_pixels))
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # a pipe may have no end
        raise BrokenImage('it is no regular file')
    _check_bytes(status.st_size, max_pixels)
    with open(path, 'rb') as file:
        return file.read()


def _check_bytes(size, max_pixels):
    if size > BYTES_PER_PIXEL * max_pixels:
        raise BrokenImage(f'it has {size:,} bytes, more than an image of '
                          f'max_pixels={max_pixels:,}')


def decode(data, max_pixels, value_range=None):
    """The bytes of any image to BGR uint8 (H, W, 3), upright.

    Args:
        value_range (tuple[float]): the values of black and of white in images
            of more than 8 bits, as (0, 4095) for 12 bits in a 16-bit file.
            None: of 16 bits (0, 65535), of a PPM what it says; floats,
            negative numbers, and those up to 255 have no known range.
    """
    pixels = decode_plain_jpeg(data, max_pixels)
    if pixels is None:
        image = open_image(data, max_pixels)
        _check_layout(image, data)
        deep = None if value_range is None else _deep(image, data)
        if deep is not None:
            return _scaled(deep, value_range)
        pixels = np.array(_to_rgb(image, value_range))[..., ::-1]
    return pixels


def check_value_range(value_range):
    """Refuse what is neither None nor the values of black and white."""
    try:
        if value_range is None or value_range[0] < value_range[1]:
            return
    except (TypeError, LookupError):
        pass  # what it is instead, the message says
    raise Refused(f'value_range={value_range!r}: expected are the values of '
                  'black and white, as [0, 4095]')


def open_image(data, max_pixels):
    """A Pillow image, whose header is read and whose pixels are not."""
    Image.MAX_IMAGE_PIXELS = None  # Pillow's limit; ours follows
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if not 0 < image.width * image.height <= max_pixels:
        raise BrokenImage(f'it has {image.width} x {image.height} pixels; '
                          f'max_pixels={max_pixels:,} of mmfd.LoadImage or '
                          'mmfd.LoadCrop sets the limit')
    return image


def plain_jpeg_size(data, max_pixels):
    """(height, width) of a plain JPEG, None of anything else.

    Plain means complete, upright, of one or three colours and 8 bits. The
    compressed data of a JPEG holds no END but the last, so a file that ends in
    one, after its header, is complete.
    """
    if data[:2] != START or data[-2:] != END:
        return None
    at, has_app1 = 2, False
    while at + 10 < len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], _uint16(data, at + 2)
        if kind in FRAMES:
            size = _uint16(data, at + 5), _uint16(data, at + 7)
            plain = data[at + 4] == 8 and data[at + 9] in (1, 3)
            small = 0 < size[0] * size[1] <= max_pixels
            upright = not has_app1 or _is_upright(data)
            return size if plain and small and upright else None
        if kind not in TABLES:
            return None
        has_app1 |= kind == APP1
        at += 2 + length
    return None


def decode_plain_jpeg(data, max_pixels):
    """A plain JPEG to BGR uint8 (H, W, 3); None of anything else."""
    if plain_jpeg_size(data, max_pixels) is None:
        return None
    return cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS)


def _uint16(data, at):
    return data[at] << 8 | data[at + 1]


def _is_upright(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.getexif().get(ORIENTATION, 1) == 1


def _check_layout(image, data):
    """Refuse colours of 16 bits in planes, which Pillow and OpenCV mix up."""
    if (image.format == 'TIFF' and _is_deep_colour(image, data)
            and image.tag_v2.get(LAYOUT) == ONE_AFTER_ANOTHER):
        raise BrokenImage('its colours of 16 bits lie one after another: '
                          'write them pixel by pixel (PlanarConfiguration 1, '
                          'INTERLEAVE=PIXEL of GDAL)')


def _to_rgb(image, value_range):
    # which Pillow turns for images of 8 bits alone
    negative = image.format == 'TIFF' and (image.tag_v2.get(MEANING)
                                           == WHITE_IS_ZERO)
    image = ImageOps.exif_transpose(image)
    if image.mode == 'F' or image.mode.startswith('I'):
        grey = _to_8_bits(image, value_range)
        image = Image.fromarray(255 - grey if negative else grey)
    if image.mode == 'P':  # its transparency may be of a kind of its own
        image = image.convert('RGBA')
    return image.convert('RGB')


def _to_8_bits(image, value_range):
    """Numbers of more than 8 bits to grey, uint8 (H, W)."""
    if value_range is not None:
        return _scaled(np.asarray(image), value_range)
    numbers = np.asarray(image)
    low, high = numbers.min(), numbers.max()
    # 16 bits, which some formats store in 32; of fewer it would be black
    if image.mode != 'F' and 0 <= low and 255 < high <= 65535:
        return (numbers >> 8).astype(np.uint8)
    kind = 'floating-point' if image.mode == 'F' else 'whole'
    raise BrokenImage(f'it holds {kind} numbers, {low:g} to {high:g}, of '
                      'unknown range; value_range of mmfd.LoadImage and '
                      'mmfd.LoadCrop tells it')


def _scaled(numbers, value_range):
    black, white = value_range
    numbers = np.nan_to_num(numbers.astype(np.float32)).clip(black, white)
    scaled = (numbers - black) * (255 / (white - black))
    return scaled.round().astype(np.uint8)


def _deep(image, data):
    """The numbers in a file, (H, W, 3), of which Pillow makes others.

    Of colours of 16 bits it keeps 8, and it stretches all that a PPM has.

    Returns:
        ndarray | None: BGR uint16; None of other images.
    """
    if not (image.format == 'PPM' or _is_deep_colour(image, data)):
        return None
    numbers = cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    is_deep = numbers is not None and numbers.dtype == np.uint16
    return numbers if is_deep else None


def _is_deep_colour(image, data):
    """Whether an image has several samples of 16 bits a pixel."""
    if image.format == 'TIFF':
        bits = image.tag_v2.get(BITS, (8, ))
        return image.mode.startswith('RGB') and bits[0] == 16
    # all but grey alone, of which Pillow keeps the 16 bits
    return image.format == 'PNG' and data[24] == 16 and data[25] != 0


def _reason(error):
    if isinstance(error, UnidentifiedImageError):
        return f'it is none of {", ".join(FORMATS)}, or a rare kind of one'
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__
