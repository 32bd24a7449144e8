"""Plain JPEG files, decoded by OpenCV; everything else is left to Pillow.

Both read with libjpeg and find the same pixels, OpenCV with fewer copies. But
it takes a file that ends early for an image with a grey end, so it is given
none but whole ones.
"""
import io

import cv2
import numpy as np
from PIL import Image

START, END = b'\xff\xd8', b'\xff\xd9'
FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
TABLES = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # before the frame
APP1 = 0xE1  # Exif or XMP, which may say that the image lies on its side
ORIENTATION = 0x0112
FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def plain_size(data, max_pixels):
    """(height, width) of a plain JPEG, None of anything else.

    Plain is whole, upright, and has one or three colours of 8 bits. A scan
    holds no END but its own, so a file that ends in one, after its header, has
    not lost its tail.
    """
    if data[:2] != START or data[-2:] != END:
        return None
    at, turned = 2, False
    while at + 10 < len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], _number(data, at + 2)
        if kind in FRAMES:
            size = _number(data, at + 5), _number(data, at + 7)
            plain = data[at + 4] == 8 and data[at + 9] in (1, 3)
            small = 0 < size[0] * size[1] <= max_pixels
            upright = not turned or _is_upright(data)
            return size if plain and small and upright else None
        if kind not in TABLES:
            return None
        turned |= kind == APP1
        at += 2 + length
    return None


def decode(data, max_pixels):
    """The pixels of a plain JPEG as BGR uint8 (H, W, 3), None of others."""
    if plain_size(data, max_pixels) is None:
        return None
    return cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS)


def _number(data, at):
    return data[at] << 8 | data[at + 1]


def _is_upright(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.getexif().get(ORIENTATION, 1) == 1
