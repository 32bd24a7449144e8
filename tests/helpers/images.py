"""Image files of every kind, good and broken."""
import io
import os
import zipfile
import zlib

import cv2
import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # in Exif


def solid(path, value=100, size=(8, 12)):
    """Write an image of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (value, value, value)).save(path)


def class_tree(root, classes, **counts):
    """Write files that only look like images: ROOT/SPLIT/CLASS/NUMBER.jpg.

    Args:
        counts: split -> files of each class.
    """
    for split, count in counts.items():
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f'{i}.jpg').write_text(f'{split} {name} {i}')


def gradient():
    """All greys from 0 to 255, uint8 (12, 8)."""
    return np.linspace(0, 255, 12 * 8).reshape(12, 8).astype(np.uint8)


def noise(size=(40, 32), mode='RGB', seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def photo(width, height, seed=0):
    """Smooth shapes with edges and some grain, as photos have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y = rng.integers(0, (width, height))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        radius = int(rng.integers(4, height // 3))
        cv2.circle(image, (int(x), int(y)), radius, colour, -1)
    grain = rng.normal(0, 4, image.shape)
    return Image.fromarray((image + grain).clip(0, 255).astype(np.uint8))


def jpeg(image, **options):
    """The bytes of a JPEG file, as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, 'JPEG', **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def _animated(path):
    noise().save(path, save_all=True, append_images=[noise(seed=1)])


def _sixteen_bits(path):
    Image.fromarray(np.arange(960, dtype=np.uint16).reshape(30, 32)).save(path)


def _name_that_is_no_utf8(path):
    noise().save(path.with_suffix('.png'))
    path.with_suffix('.png').rename(
        path.with_name('caf%s.jpg' %
                       os.fsdecode(b'\xe9' + path.stem.encode())))


def _truncated(path):
    noise((64, 64)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:int(0.6 * len(data))])


def _flipped_bits(path):
    Image.fromarray(gradient()).save(path)
    data = bytearray(path.read_bytes())
    data[data.index(b'IDAT') + 12] ^= 255
    path.write_bytes(data)


def _claims(width, height):
    """A PNG of a few bytes that claims that size."""

    def write(path):
        Image.new('1', (1, 1)).save(path)
        data = bytearray(path.read_bytes())
        data[16:24] = width.to_bytes(4, 'big') + height.to_bytes(4, 'big')
        data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, 'big')
        path.write_bytes(data)

    return write


def _zipped(path):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a.txt', 'b')


GOOD = {  # name of a file -> what writes it
    'plain.jpg': lambda p: noise().save(p),
    'cmyk.jpg': lambda p: noise(mode='CMYK').save(p),
    'grey.png': lambda p: noise(mode='L').save(p),
    'sixteen.png': _sixteen_bits,
    'alpha.png': lambda p: noise(mode='RGBA').save(p),
    'grey_alpha.png': lambda p: noise(mode='LA').save(p),
    'palette.png': lambda p: noise(mode='P').save(p),
    'bits.png': lambda p: noise(mode='1').save(p),
    'animated.gif': _animated,
    'animated.webp': _animated,
    'pixel.png': lambda p: noise((1, 1)).save(p),
    'line.png': lambda p: noise((1, 500)).save(p),
    'rotated.jpg': lambda p: noise().save(p, exif=exif(6)),
    'png_called.jpg': lambda p: noise().save(p, format='PNG'),
    'not_utf8.jpg': _name_that_is_no_utf8,
}
BROKEN = {  # name of a file -> what writes it
    'empty.jpg': lambda p: p.touch(),
    'text.jpg': lambda p: p.write_text('a picture of a dog'),
    'page.png': lambda p: p.write_text('<html>403</html>'),
    'archive.png': _zipped,
    'header.jpg': lambda p: p.write_bytes(b'\xff\xd8\xff' + bytes(9)),
    'truncated.jpg': _truncated,
    'truncated.png': _truncated,
    'truncated.webp': _truncated,
    'flipped.png': _flipped_bits,
    'float.tif': lambda p: Image.new('F', (4, 4)).save(p),
    'empty_pixels.ppm': lambda p: p.write_bytes(b'P6 0 0 255\n'),
    'bomb.png': _claims(20_000, 20_000),
    'wide_bomb.png': _claims(2**31 - 1, 2**31 - 1),
    'postscript.jpg': lambda p: noise().save(p, format='EPS'),
    'icon.png': lambda p: noise().save(p, format='ICO'),
    'loop.jpg': lambda p: p.symlink_to(p),
    'nowhere.jpg': lambda p: p.symlink_to('gone.jpg'),
    'zeros.jpg': lambda p: p.symlink_to('/dev/zero'),
    'huge.jpg': lambda p: (p.touch(), os.truncate(p, 1 << 40)),
}
