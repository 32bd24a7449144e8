"""Files of every mode and format become the pixels that Pillow decodes."""
import io
import resource
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.images import BROKEN, exif, gradient, jpeg, photo, solid
from PIL import Image

from mmfd.data.decode import (BrokenImage, decode, decode_plain_jpeg,
                              errors_as_broken_image, plain_jpeg_size, read)
from mmfd.data.transforms import LoadImage
from mmfd.errors import Refused

LIMIT = 100_000_000


def decoded(path):
    with errors_as_broken_image():
        return decode(read(path, LIMIT), LIMIT)


def by_pillow(data):
    """BGR, or None of what it refuses."""
    try:
        return np.array(Image.open(io.BytesIO(data)).convert('RGB'))[..., ::-1]
    except Exception:
        return None


# --- any mode ---


def test_colour_comes_as_bgr_bytes_as_opencv_reads_it(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (12, 8, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'a.png')
    pixels = decoded(tmp_path / 'a.png')
    assert np.array_equal(pixels, image[..., ::-1])
    assert np.array_equal(pixels, cv2.imread(str(tmp_path / 'a.png')))


def with_tag(tiff, tag, value, other):
    """A TIFF in which a tag has another value."""
    assert tiff.count(struct.pack('<HHIH', tag, 3, 1, value)) == 1
    return tiff.replace(
        struct.pack('<HHIH', tag, 3, 1, value),
        struct.pack('<HHIH', tag, 3, 1, other))


def png(numbers, kind):
    """A PNG of numbers of 16 bits, (H, W, C), whose header says `kind`."""

    def chunk(name, content):
        return (struct.pack('>I', len(content)) + name + content +
                struct.pack('>I', zlib.crc32(name + content)))

    h, w, _ = numbers.shape
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in numbers)
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        (chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 16, kind, 0, 0, 0)),
         chunk(b'IDAT', zlib.compress(rows)), chunk(b'IEND', b'')))


def test_every_mode_becomes_the_same_grey(tmp_path):
    """Eight modes of one image; CMYK rounds twice on its way."""
    grey = gradient()
    image = Image.fromarray(grey)
    alpha = image.convert('RGBA')
    alpha.putalpha(7)
    modes = dict(
        grey=image,
        grey_alpha=image.convert('LA'),
        colour=image.convert('RGB'),
        alpha=alpha,
        palette=image.convert('RGB').quantize(96),
        sixteen=Image.fromarray(grey.astype(np.uint16) * 257),
        thirty_two=Image.fromarray(grey.astype(np.int32) * 257),
        cmyk=image.convert('RGB').convert('CMYK'))
    for name, face in modes.items():
        tif = name in ('cmyk', 'thirty_two')
        path = tmp_path / f'{name}.{"tif" if tif else "png"}'
        face.save(path)
        pixels = decoded(path).astype(int)
        assert pixels.shape == (12, 8, 3), name
        assert abs(pixels - grey[..., None]).max() <= 2, name


@pytest.mark.parametrize('top, kind, suffix', [
    (4095, np.uint16, 'png'),
    (4095, np.uint16, 'tif'),
    (1, np.float32, 'tif'),
    (255, np.float32, 'tif'),
    (255, np.int32, 'tif'),
    (100_000, np.int32, 'tif'),
])
def test_value_range_says_what_is_black_and_white(tmp_path, top, kind, suffix):
    numbers = (gradient() / 255. * top).astype(kind)
    Image.fromarray(numbers).save(tmp_path / f'a.{suffix}')
    data = (tmp_path / f'a.{suffix}').read_bytes()
    pixels = decode(data, 100, (0, top)).astype(int)
    assert abs(pixels - gradient()[..., None]).max() <= 1
    assert decode(data, 100, (top / 2, top))[0].max() == 0
    if kind is not np.uint16:
        with pytest.raises(
                BrokenImage, match='of unknown range; value_range of'):
            decode(data, 100)


@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_deep_colours_have_a_range_too(tmp_path, suffix):
    grey = gradient()
    colours = np.stack([grey, grey[::-1], grey.T.reshape(grey.shape)], -1)
    file = str(tmp_path / f'a.{suffix}')
    cv2.imwrite(file, colours.astype(np.uint16) * 16)
    pixels = decode(Path(file).read_bytes(), 100, (0, 255 * 16))
    assert np.array_equal(pixels, colours)


@pytest.mark.parametrize('top', [1000, 4095, 65535])
@pytest.mark.parametrize('channels', [1, 3])
def test_range_of_a_ppm_is_what_it_says_or_what_is_set(top, channels):
    """Pillow stretches its numbers to 8 or 16 bits, whatever they are."""
    numbers = np.stack([gradient()] * channels, -1) * 15.
    head = f'P{5 if channels == 1 else 6} 8 12 {top} '.encode()
    data = head + numbers.astype('>u2').tobytes()
    if numbers.max() <= top:
        pixels = decode(data, 100) * (top / 255)
        assert abs(pixels - numbers).max() <= top / 128
    pixels = decode(data, 100, (0, 255 * 15)).astype(int)
    assert np.array_equal(pixels[..., 0], gradient())


@pytest.mark.parametrize('kind, numbers', [
    (np.int16, gradient() * 8. - 1024),
    (np.int32, gradient() * 8. - 1024),
    (np.uint16, gradient()),
])
def test_numbers_that_are_not_of_16_bits_are_not_taken_for_such(
        tmp_path, kind, numbers):
    """As those of a CT, or 8 bits in a file of 16, which would be black."""
    file = str(tmp_path / 'a.tiff')
    if kind is np.int32:
        Image.fromarray(numbers.astype(kind)).save(file)
    else:
        cv2.imwrite(file, numbers.astype(kind))
    data, ends = Path(file).read_bytes(), (numbers.min(), numbers.max())
    said = 'whole numbers, {:g} to {:g}, of unknown'.format(*ends)
    with pytest.raises(BrokenImage, match=said):
        decode(data, 100)
    spread = decode(data, 100, ends).astype(int)[..., 0]
    assert (spread.min(), spread.max()) == (0, 255)


@pytest.mark.parametrize('suffix, channels', [('png', 4), ('tif', 4),
                                              ('png', 2)])
def test_deep_images_with_alpha_have_a_range_too(tmp_path, suffix, channels):
    colours = np.stack([gradient()] * 3, -1)
    alpha = np.full(gradient().shape, 65535)
    numbers = np.dstack([colours.astype(int) * 16, alpha]).astype('>u2')
    file = tmp_path / f'a.{suffix}'
    cv2.imwrite(str(file), numbers.astype(np.uint16))
    data = file.read_bytes() if channels == 4 else png(numbers[..., 2:], 4)
    assert np.array_equal(decode(data, 100, (0, 255 * 16)), colours)


def test_white_of_a_deep_tiff_can_be_zero(tmp_path):
    """As in pictures of X-rays. Pillow turns those of 8 bits alone."""
    file = tmp_path / 'a.tif'
    Image.fromarray((65535 - gradient() * 257.).astype(np.uint16)).save(file)
    data = with_tag(file.read_bytes(), 262, 1, 0)
    for value_range in None, (0, 65535):
        assert np.array_equal(
            decode(data, 100, value_range)[..., 0], gradient())


def test_deep_colours_in_planes_are_refused(tmp_path):
    file = tmp_path / 'a.tif'
    for channels, refused in ((1, False), (3, True)):
        numbers = np.stack([gradient()] * channels, -1).astype(np.uint16) * 257
        cv2.imwrite(str(file), numbers)
        data = with_tag(file.read_bytes(), 284, 1, 2)
        if refused:
            with pytest.raises(BrokenImage, match='INTERLEAVE=PIXEL'):
                decode(data, 100)
        else:  # one plane lies as it would anyway
            assert np.array_equal(decode(data, 100)[..., 0], gradient())


def test_number_without_end_is_white(tmp_path):
    numbers = np.array([[0, 1, np.inf, -np.inf, np.nan]], np.float32)
    Image.fromarray(numbers).save(tmp_path / 'a.tif')
    pixels = decode((tmp_path / 'a.tif').read_bytes(), 100, (0, 1))
    assert pixels[0, :, 0].tolist() == [0, 255, 255, 0, 0]


@pytest.mark.parametrize('value_range', [3, [9], [4, 4], ['a', 1]])
def test_value_range_is_two_numbers(value_range):
    with pytest.raises(Refused, match='the values of black and white'):
        LoadImage(value_range=value_range)


def test_image_of_one_bit_is_black_and_white(tmp_path):
    Image.fromarray(gradient()).convert('1').save(tmp_path / 'a.png')
    assert set(np.unique(decoded(tmp_path / 'a.png'))) == {0, 255}


def test_image_taken_sideways_stands_upright(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / 'a.png', exif=exif(6))
    assert np.array_equal(
        decoded(tmp_path / 'a.png')[..., 0], np.rot90(gradient(), -1))


def test_first_frame_stands_for_an_animation(tmp_path):
    frames = [Image.new('RGB', (8, 8), (v, 0, 0)) for v in (255, 9)]
    for suffix in 'webp', 'gif':
        path = tmp_path / f'a.{suffix}'
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert abs(decoded(path)[..., 2].astype(int) - 255).max() < 4


def test_right_image_with_the_wrong_suffix_is_read(tmp_path):
    solid(tmp_path / 'a.png', 50)
    (tmp_path / 'a.png').rename(tmp_path / 'a.jpg')
    assert (decoded(tmp_path / 'a.jpg') == 50).all()


# --- broken files ---


@pytest.mark.parametrize('name', BROKEN)
def test_broken_file_is_refused_with_a_reason_and_without_memory(
        tmp_path, name):
    BROKEN[name](tmp_path / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenImage) as refused:
        decoded(tmp_path / name)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(str(refused.value)) > 8 and '0x' not in str(refused.value)
    assert after - before < 50 << 10  # kilobytes


def test_size_of_an_image_has_a_limit_of_our_own(tmp_path, monkeypatch):
    """Pillow's limit would warn at so many pixels and fail at twice."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    solid(tmp_path / 'a.png', size=(32, 40))
    data = read(tmp_path / 'a.png', 1280)
    with pytest.raises(
            BrokenImage,
            match='it has 32 x 40 pixels; max_pixels=1,279 of mmfd.LoadImage'):
        decode(data, 1279)
    assert decode(data, 1280).shape == (40, 32, 3)


@pytest.mark.full
def test_largest_image_takes_eleven_bytes_a_pixel(tmp_path):
    Image.new('1', (10_000, 10_000)).save(tmp_path / 'a.png')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = decoded(tmp_path / 'a.png')
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert image.shape == (10_000, 10_000, 3)
    assert after - before < 11.5 * 10**8 / 1024  # kilobytes


# --- plain JPEGs ---

PLAIN = {
    'plain': dict(),
    'fine chroma': dict(subsampling=0, quality=95),
    'wide chroma': dict(subsampling=1, quality=50),
    'progressive': dict(progressive=True),
    'grey': dict(),
    'profile and comment': dict(icc_profile=bytes(3000), comment='a'),
    'upright': dict(exif=exif(1)),
}


@pytest.mark.parametrize('kind', PLAIN)
def test_opencv_decodes_the_pixels_that_pillow_decodes(kind):
    image = photo(83, 61)
    data = jpeg(image.convert('L') if kind == 'grey' else image, **PLAIN[kind])
    assert plain_jpeg_size(data, 10_000) == (61, 83)
    assert np.array_equal(decode_plain_jpeg(data, 10_000), by_pillow(data))


@pytest.mark.parametrize('make', [
    lambda: jpeg(photo(83, 61).convert('CMYK')),
    lambda: jpeg(photo(83, 61)) + b'\0',
    lambda: jpeg(photo(83, 61))[:-2],
    lambda: jpeg(photo(83, 61), exif=exif(6)),
    lambda: b'\xff\xd8\xff\xd9',
    lambda: b'\x89PNG\xff\xd9',
    lambda: b'',
])
def test_what_is_not_plain_is_left_to_pillow(make):
    assert plain_jpeg_size(make(), 10_000) is None
    assert decode_plain_jpeg(make(), 10_000) is None


@pytest.mark.parametrize('progressive', [False, True])
def test_no_beginning_of_a_file_is_taken_for_all_of_it(progressive):
    """Nor when a thumbnail in its header has an end of its own."""
    thumbnail = b'Exif\0\0' + jpeg(photo(24, 18))
    header = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    data = jpeg(photo(83, 61), progressive=progressive)
    data = data[:2] + header + data[2:]
    assert plain_jpeg_size(data, 10_000) == (61, 83)
    assert not any(
        plain_jpeg_size(data[:end], 10_000) for end in range(len(data)))


def test_damaged_file_is_read_or_refused_as_pillow_does():
    data = jpeg(photo(83, 61), quality=90)
    rng, refused, changed = np.random.default_rng(0), 0, 0
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(2, len(data) - 2, rng.integers(1, 4)):
            damaged[at] = rng.integers(0, 256)
        theirs = by_pillow(bytes(damaged))
        try:
            with errors_as_broken_image():
                ours = decode(bytes(damaged), LIMIT)
        except BrokenImage:
            ours = None
        assert (ours is None) == (theirs is None)
        assert ours is None or np.array_equal(ours, theirs)
        refused += theirs is None
        changed += theirs is not None
    assert refused > 3 and changed > 50
