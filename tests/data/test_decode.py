"""JPEG files: what OpenCV decodes is what Pillow would; crops of them."""
import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from mmfd.data import decode
from mmfd.data.image_folder import BrokenImage, LoadImage
from mmfd.registry import TRANSFORMS


def photo(width, height, seed=0):
    """Smooth shapes with edges and some grain, as photos have."""
    noise = np.random.default_rng(seed)
    coarse = noise.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y = noise.integers(0, (width, height))
        colour = tuple(int(c) for c in noise.integers(0, 256, 3))
        radius = int(noise.integers(4, height // 3))
        cv2.circle(image, (int(x), int(y)), radius, colour, -1)
    grain = noise.normal(0, 4, image.shape)
    return Image.fromarray((image + grain).clip(0, 255).astype(np.uint8))


def saved(image, **kwargs):
    file = io.BytesIO()
    image.save(file, 'JPEG', **kwargs)
    return file.getvalue()


def by_pillow(data):
    """BGR, or None of what it refuses."""
    try:
        return np.array(Image.open(io.BytesIO(data)).convert('RGB'))[..., ::-1]
    except Exception:
        return None


def load_crop(scale=32, interpolation='bilinear', kind=None, **kwargs):
    return TRANSFORMS.build(
        dict(
            type='mmfd.LoadCrop',
            crop=dict(
                type=kind or 'mmpretrain.RandomResizedCrop',
                scale=scale,
                interpolation=interpolation),
            **kwargs))


FACES = {
    'plain': dict(),
    'fine chroma': dict(subsampling=0, quality=95),
    'wide chroma': dict(subsampling=1, quality=50),
    'progressive': dict(progressive=True),
    'grey': dict(),
    'profile and comment': dict(icc_profile=bytes(3000), comment='a'),
    'upright': dict(exif=Image.Exif()),
}


@pytest.mark.parametrize('face', FACES)
def test_opencv_finds_the_pixels_that_pillow_finds(face):
    image = photo(83, 61)
    if face == 'upright':
        FACES[face]['exif'][decode.ORIENTATION] = 1
    image = image.convert('L') if face == 'grey' else image
    data = saved(image, **FACES[face])
    assert decode.plain_size(data, 10_000) == (61, 83)
    assert np.array_equal(decode.decode(data, 10_000), by_pillow(data))


@pytest.mark.parametrize('make', [
    lambda: saved(photo(83, 61).convert('CMYK')),
    lambda: saved(photo(83, 61)) + b'\0',
    lambda: saved(photo(83, 61))[:-2],
    lambda: saved(photo(83, 61), exif=exif(6)),
    lambda: b'\xff\xd8\xff\xd9',
    lambda: b'\x89PNG\xff\xd9',
    lambda: b'',
])
def test_what_is_not_plain_is_left_to_pillow(make):
    assert decode.plain_size(make(), 10_000) is None and decode.decode(
        make(), 10_000) is None


def exif(orientation):
    tags = Image.Exif()
    tags[decode.ORIENTATION] = orientation
    return tags


@pytest.mark.parametrize('progressive', [False, True])
def test_no_beginning_of_a_file_is_taken_for_the_whole(progressive):
    """Nor when a thumbnail in its header has an end of its own."""
    thumbnail = b'Exif\0\0' + saved(photo(24, 18))
    header = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    data = saved(photo(83, 61), progressive=progressive)
    data = data[:2] + header + data[2:]
    assert sum(
        decode.plain_size(data[:end], 10_000) is not None
        for end in range(len(data))) == 0


def test_damaged_file_is_read_or_refused_as_pillow_does(tmp_path):
    whole = saved(photo(83, 61), quality=90)
    noise, refused, changed = np.random.default_rng(0), 0, 0
    for _ in range(150):
        data = bytearray(whole)
        for at in noise.integers(2, len(data) - 2, noise.integers(1, 4)):
            data[at] = noise.integers(0, 256)
        theirs = by_pillow(bytes(data))
        (tmp_path / 'x.jpg').write_bytes(data)
        try:
            ours = LoadImage()(dict(img_path=tmp_path / 'x.jpg'))['img']
        except BrokenImage:
            ours = None
        assert (ours is None) == (theirs is None)
        assert ours is None or np.array_equal(ours, theirs)
        refused += theirs is None
        changed += theirs is not None
    assert refused > 3 and changed > 50


@pytest.mark.parametrize('suffix, size',
                         [('jpg', (83, 61)), ('jpg', (830, 610)),
                          ('png', (83, 61))])
def test_crop_of_a_file_that_ends_early_is_refused(tmp_path, suffix, size):
    """Also where it is decoded at a smaller scale."""
    path = tmp_path / f'x.{suffix}'
    photo(*size).save(path)
    load_crop()(dict(img_path=path))
    for share in 0.05, 0.5, 0.9:
        data = path.read_bytes()
        (tmp_path / 'short').write_bytes(data[:int(share * len(data))])
        with pytest.raises(BrokenImage):
            load_crop()(dict(img_path=tmp_path / 'short'))


def difference(tmp_path, size, scale, interpolation, **kwargs):
    """From crop and resize in Pillow, mean over pixels of 20 crops, 0-255."""
    transform, found = load_crop(scale, interpolation, **kwargs), []
    method = Image.Resampling[interpolation.upper()]
    for seed in range(20):
        image = photo(*size, seed % 5)
        (tmp_path / 'x.jpg').write_bytes(saved(image, quality=95))
        np.random.seed(seed)
        ours = transform(dict(img_path=tmp_path / 'x.jpg'))['img']
        np.random.seed(seed)
        top, left, height, width = transform.crop.rand_crop_params(
            np.empty((size[1], size[0])))
        whole = Image.open(tmp_path / 'x.jpg')
        theirs = whole.crop((left, top, left + width, top + height)).resize(
            (scale, scale), method)
        found.append(abs(ours[..., ::-1].astype(int) - theirs).mean())
    return np.mean(found)


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_crop_is_pillows_to_a_tenth_of_a_step(tmp_path, interpolation):
    assert difference(tmp_path, (250, 187), 112, interpolation) < 0.1


def test_crop_of_a_large_image_is_pillows_to_one_step(tmp_path):
    size = 500, 375  # crops of 8 to 100 % are 8 to 28 times larger
    smaller = difference(tmp_path, size, 16, 'bilinear')
    assert 0.1 < smaller < 1  # it was decoded at another scale
    assert difference(tmp_path, size, 16, 'bilinear', gap=100) < 0.1


def test_crop_is_antialiased(tmp_path):
    """Stripes of one pixel become grey, not stripes of another width."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / 'x.png')
    transform = load_crop(32)
    transform.crop.crop_ratio_range = (0.9, 1)
    crop = transform(dict(img_path=tmp_path / 'x.png'))['img']
    assert abs(crop[2:-2, 2:-2].astype(int) - 127).max() <= 24


def test_same_random_numbers_give_torchvisions_boxes(monkeypatch):
    monkeypatch.setattr(
        np.random, 'uniform',
        lambda low, high: torch.empty(1).uniform_(low, high).item())
    monkeypatch.setattr(
        np.random, 'randint',
        lambda low, high: torch.randint(low, high, (1, )).item())
    crop, image = load_crop().crop, np.empty((61, 83))
    for seed in range(200):
        torch.manual_seed(seed)
        ours = crop.rand_crop_params(image)
        torch.manual_seed(seed)
        theirs = T.RandomResizedCrop.get_params(
            torch.empty(3, 61, 83), (0.08, 1), (3 / 4, 4 / 3))
        assert ours == theirs


def test_crop_is_drawn_alike_whatever_the_file(tmp_path):
    """A JPEG's from its header, a PNG's when it is decoded."""
    image = photo(83, 61)
    for kind in 'mmpretrain.RandomResizedCrop', 'mmfd.ClampedCrop':
        image.save(tmp_path / 'x.jpg', quality=100, subsampling=0)
        image.save(tmp_path / 'x.png')
        crops = []
        for name in 'x.jpg', 'x.png':
            np.random.seed(3)
            found = load_crop(kind=kind)(dict(img_path=tmp_path / name))
            assert found['ori_shape'] == (61, 83)
            crops.append(found['img'].astype(int))
        assert abs(crops[0] - crops[1]).mean() < 2


def test_resize_that_does_not_antialias_is_refused():
    with pytest.raises(ValueError, match="'area' is not antialiased"):
        load_crop(interpolation='area')
