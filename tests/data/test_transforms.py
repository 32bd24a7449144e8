"""Crops are those of the official code, read from less of the file."""
import numpy as np
import pytest
import torch
from helpers.images import jpeg, noise, photo
from mmengine.registry import TRANSFORMS
from PIL import Image
from torchvision import transforms as T

from mmfd.data.decode import BrokenImage
from mmfd.data.transforms import LoadImage
from mmfd.errors import Refused


def load_crop(scale=32, interpolation='bilinear', kind=None, **kwargs):
    return TRANSFORMS.build(
        dict(
            type='mmfd.LoadCrop',
            crop=dict(
                type=kind or 'mmpretrain.RandomResizedCrop',
                scale=scale,
                interpolation=interpolation),
            **kwargs))


# --- LoadImage ---


def test_image_is_loaded_with_its_size(tmp_path):
    noise().save(tmp_path / 'a.png')
    results = LoadImage()(dict(img_path=tmp_path / 'a.png', gt_label=3))
    assert results['img'].shape == (40, 32, 3)
    assert results['img_shape'] == results['ori_shape'] == (40, 32)
    assert results['gt_label'] == 3
    with pytest.raises(BrokenImage, match='max_pixels=1,279 of mmfd.LoadImag'):
        LoadImage(max_pixels=1279)(dict(img_path=tmp_path / 'a.png'))


def test_image_that_is_there_already_is_left_as_it_is():
    results = dict(img=np.zeros((4, 4, 3)), img_path='nowhere.jpg')
    assert LoadImage()(results) is results


# --- LoadCrop ---


@pytest.mark.parametrize('suffix, size',
                         [('jpg', (83, 61)), ('jpg', (830, 610)),
                          ('png', (83, 61))])
def test_crop_of_a_file_that_ends_early_is_refused(tmp_path, suffix, size):
    """Also where it is decoded at a smaller scale."""
    path = tmp_path / f'x.{suffix}'
    photo(*size).save(path)
    load_crop()(dict(img_path=path))
    data = path.read_bytes()
    for share in 0.05, 0.5, 0.9:
        (tmp_path / 'short').write_bytes(data[:int(share * len(data))])
        with pytest.raises(BrokenImage):
            load_crop()(dict(img_path=tmp_path / 'short'))


def difference(tmp_path, size, scale, interpolation, **kwargs):
    """From crop and resize in Pillow, mean over pixels of 20 crops, 0-255."""
    transform, differences = load_crop(scale, interpolation, **kwargs), []
    method = Image.Resampling[interpolation.upper()]
    for seed in range(20):
        image = photo(*size, seed % 5)
        (tmp_path / 'x.jpg').write_bytes(jpeg(image, quality=95))
        np.random.seed(seed)
        ours = transform(dict(img_path=tmp_path / 'x.jpg'))['img']
        np.random.seed(seed)
        top, left, height, width = transform.crop.rand_crop_params(
            np.empty((size[1], size[0])))
        crop = Image.open(tmp_path / 'x.jpg').crop(
            (left, top, left + width, top + height))
        theirs = crop.resize((scale, scale), method)
        differences.append(abs(ours[..., ::-1].astype(int) - theirs).mean())
    return np.mean(differences)


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
            results = load_crop(kind=kind)(dict(img_path=tmp_path / name))
            assert results['ori_shape'] == (61, 83)
            crops.append(results['img'].astype(int))
        assert abs(crops[0] - crops[1]).mean() < 2


def test_resize_that_does_not_antialias_is_refused():
    with pytest.raises(Refused, match="'area' is not antialiased"):
        load_crop(interpolation='area')


# --- ClampedCrop ---


def boxes(height, width, draws=1, **kwargs):
    """(top, left, height, width) of crops of the linear probe."""
    np.random.seed(0)
    crop = TRANSFORMS.build(dict(type='mmfd.ClampedCrop', scale=8, **kwargs))
    image = np.zeros((height, width, 3), np.uint8)
    return np.array([crop.rand_crop_params(image) for _ in range(draws)])


@pytest.mark.parametrize(
    'size, aspect, expected',
    [
        ((30, 40), 4 / 3, (30, 40)),  # the whole image
        ((30, 40), 3 / 4,
         (30, 30)),  # 40 x 30 sticks out: cut, not drawn again
        ((30, 40), 1, (30, 35)),  # the root of 1200 is 34.6
        ((10, 90), 1, (10, 30)),
    ])
def test_crop_that_sticks_out_is_cut_to_the_image(size, aspect, expected):
    one = dict(crop_ratio_range=(1, 1), aspect_ratio_range=(aspect, aspect))
    for top, left, *shape in boxes(*size, draws=50, **one):
        assert tuple(shape) == expected
        assert top + expected[0] <= size[0] and left + expected[1] <= size[1]


def test_crops_have_uniform_areas_log_uniform_aspects_and_any_place():
    top, left, height, width = boxes(
        400, 400, draws=20000, crop_ratio_range=(0.08, 0.5)).T
    area = height * width / 400**2  # none of these sticks out
    shares = np.quantile(area, [0, .25, .5, .75, 1])
    assert shares == pytest.approx([.08, .185, .29, .395, .5], abs=.01)
    aspect = np.quantile(np.log(width / height), [0, .25, .5, .75, 1])
    expected = np.log(4 / 3) * np.array([-1, -.5, 0, .5, 1])
    assert aspect == pytest.approx(expected, abs=.02)
    for offset, side in (top, height), (left, width):
        place = offset / (400 - side)
        assert place.min() == 0 and place.max() == 1
        assert place.mean() == pytest.approx(.5, abs=.01)


def test_clamped_crop_is_resized_to_the_size_asked_for():
    crop = TRANSFORMS.build(
        dict(
            type='mmfd.ClampedCrop',
            scale=8,
            interpolation='bicubic',
            backend='pillow'))
    image = np.full((30, 40, 3), 7, np.uint8)
    assert np.array_equal(crop(dict(img=image))['img'], image[:8, :8])
