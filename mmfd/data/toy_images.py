"""A small set of images that mmfd draws itself, for the demo and tests.

    python -m mmfd.data.toy_images DIR

Every image shows one large shape, its class, among smaller ones on clutter.
Colour, pose and light are independent of the class, texture depends on it in
part, as in nature, so a network has to see form. The images are laid out as
ImageNet (`imagenet/`), ADE20K (`ade/`) and COCO (`coco/`), with masks of all
that is visible.
"""
import argparse
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np

from mmfd import files
from mmfd.errors import Refused

SIZE = 96  # height and width in pixels
SUPERSAMPLE = 4  # shapes are drawn at 4x and shrunk, for soft edges
TEXTURES = 6
FAVOURITE = .6  # share of shapes with the favourite texture of their class
SPLITS = dict(train=6000, val=1500)  # images
FOLDERS = dict(  # split -> name of its folder in each layout
    train=('train', 'training', 'train2017'),
    val=('val', 'validation', 'val2017'))


def _arc(start, stop, radius=1., centre=(0., 0.)):
    angle = np.linspace(start, stop, 40) * np.pi / 180
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1) + centre


def _spikes(points, inner):
    angle = np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2, inner, 1.)
    return np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]


def _polygon(corners):
    return _spikes(corners, np.cos(np.pi / corners))


def _heart():
    t = np.linspace(0, 2 * np.pi, 60)
    x = 16 * np.sin(t)**3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], 1) / 17


# class -> outlines in the unit disc; a second outline is a hole
OUTLINES = dict(
    arrow=[[(1, 0), (.1, .8), (.1, .3), (-1, .3), (-1, -.3), (.1, -.3),
            (.1, -.8)]],
    crescent=[np.concatenate([_arc(50, 310),
                              _arc(288, 72, .82, (.39, 0))])],
    cross=[[(1, .33), (.33, .33), (.33, 1), (-.33, 1), (-.33, .33), (-1, .33),
            (-1, -.33), (-.33, -.33), (-.33, -1), (.33, -1), (.33, -.33),
            (1, -.33)]],
    disc=[_arc(0, 360)],
    frame=[_polygon(4), _polygon(4) * .6],
    heart=[_heart()],
    hexagon=[_polygon(6)],
    ring=[_arc(0, 360), _arc(0, 360, .6)],
    star=[_spikes(5, .42)],
    triangle=[_polygon(3)])
CLASSES = tuple(OUTLINES)


def _noise(rng, cells):
    """Smooth noise in 0-1, (SIZE, SIZE), with `cells` bumps along a side."""
    grid = rng.random((cells + 1, cells + 1), dtype=np.float32)
    return cv2.resize(grid, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def _pattern(rng, kind):
    """A texture: the share of the second colour, 0-1, (SIZE, SIZE)."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 14)
    u = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period
    v = (y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period
    if kind == 0:  # plain
        return np.zeros_like(x)
    if kind == 1:  # stripes
        return (np.sin(u) > rng.uniform(-.5, .5)).astype(np.float32)
    if kind == 2:  # checks
        return (np.sin(u) * np.sin(v) > 0).astype(np.float32)
    if kind == 3:  # dots
        return (np.sin(u) + np.sin(v) > 1.).astype(np.float32)
    if kind == 4:  # gradient
        return (u - u.min()) / np.ptp(u)
    return _noise(rng, int(rng.integers(4, 24)))


def _textured(rng, kind):
    """A texture in two random colours, 0-255, (SIZE, SIZE, 3)."""
    first, second = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    return first + _pattern(rng, kind)[..., None] * (second - first)


def _clutter(rng):
    """A muted background of noise and strokes, (SIZE, SIZE, 3)."""
    image = rng.uniform(60, 200) + rng.uniform(-30, 30, 3)
    for cells in (3, 8, 24):
        tint = rng.uniform(-50, 50) + rng.uniform(-20, 20, 3)
        image = image + (_noise(rng, cells)[..., None] - .5) * tint
    image = np.ascontiguousarray(image, np.float32)
    for _ in range(rng.integers(4, 12)):
        x, y, dx, dy = rng.integers(0, SIZE, 4)
        axes = (int(dx) // 3 + 1, int(dy) // 3 + 1)
        start = int(rng.integers(360))
        sweep, thickness = int(rng.integers(20, 200)), int(rng.integers(1, 4))
        cv2.ellipse(image, (int(x), int(y)), axes, int(rng.integers(180)),
                    start, start + sweep,
                    rng.uniform(0, 255, 3).tolist(), thickness)
    return image


def _shape(rng, name, radius, centre):
    """The share of each pixel that a shape covers, 0-1, (SIZE, SIZE).

    Args:
        radius, centre: in pixels; centre (x, y).
    """
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    squeeze = np.diag([1., rng.uniform(.7, 1.)])
    pose = squeeze @ np.array([[cos, sin], [-sin, cos]]) * radius
    contours = [((np.asarray(outline) @ pose + centre) *
                 SUPERSAMPLE).round().astype(np.int32)
                for outline in OUTLINES[name]]
    canvas = np.zeros((SIZE * SUPERSAMPLE, ) * 2, np.uint8)
    cv2.fillPoly(canvas, contours, 255)  # even-odd rule
    small = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def draw(split, index):
    """Draw image `index` of a split; it is the same in every run.

    Returns:
        tuple: BGR uint8 (SIZE, SIZE, 3); class of the large shape, an index
        of `CLASSES`; list of (class, mask of what is visible (SIZE, SIZE)
        bool) of all shapes.
    """
    image, label, _, objects = draw_with_texture(split, index)
    return image, label, objects


def draw_with_texture(split, index):
    """As `draw`, with the large shape's texture, 0-5, after its class."""
    rng = np.random.default_rng([list(SPLITS).index(split), index])
    label = index % len(CLASSES)
    image = _clutter(rng)
    smaller = rng.integers(len(CLASSES), size=rng.integers(1, 4))
    objects = []
    for kind in [*smaller, label]:  # the large one last: never hidden
        large = kind is label
        radius = rng.uniform(24, 38) if large else rng.uniform(7, 13)
        reach = .8 * radius if large else radius
        centre = rng.uniform(reach, SIZE - reach, 2)
        cover = _shape(rng, CLASSES[kind], radius, centre)[..., None]
        favourite = rng.random() < FAVOURITE
        texture = kind % TEXTURES if favourite else rng.integers(TEXTURES)
        image = image * (1 - cover) + _textured(rng, texture) * cover
        mask = cover[..., 0] > .5
        objects = [(k, m & ~mask) for k, m in objects] + [(int(kind), mask)]
    light = 1 + rng.uniform(0, .6) * (_noise(rng, 2)[..., None] - .5)
    image = image * light + rng.normal(0, rng.uniform(2, 14), image.shape)
    image = image.clip(0, 255).astype(np.uint8)
    return image, label, int(texture), objects


def _annotate(kind, mask):
    """COCO annotation of an object, None if too little of it is visible."""
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygons = [o.ravel().tolist() for o in outlines if len(o) > 3]
    if mask.sum() < 20 or not polygons:
        return None
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return dict(
        category_id=kind + 1,
        segmentation=polygons,
        area=int(mask.sum()),
        bbox=[x, y, w, h],
        iscrowd=0)


def _write(index, split, root):
    """Write an image into the three layouts; return its annotations."""
    image, label, objects = draw(split, index)
    imagenet, ade, coco = FOLDERS[split]
    name = f'{index:05d}'
    jpeg = root / f'imagenet/{imagenet}/{CLASSES[label]}/{name}.jpg'
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
    jpeg.write_bytes(cv2.imencode('.jpg', image, quality)[1])
    for copy in (root / f'ade/images/{ade}/{name}.jpg',
                 root / f'coco/{coco}/{name}.jpg'):
        os.link(jpeg, copy)
    classes = np.zeros((SIZE, SIZE), np.uint8)  # 0 is 'other', as in ADE20K
    for kind, mask in objects:
        classes[mask] = kind + 1
    png = root / f'ade/annotations/{ade}/{name}.png'
    png.write_bytes(cv2.imencode('.png', classes)[1])
    annotations = [_annotate(kind, mask) for kind, mask in objects]
    return [a for a in annotations if a]


def _write_split(split, root, indices, pool):
    imagenet, ade, coco = FOLDERS[split]
    for folder in (*(f'imagenet/{imagenet}/{c}' for c in CLASSES),
                   f'ade/images/{ade}', f'ade/annotations/{ade}',
                   f'coco/{coco}', 'coco/annotations'):
        files.make_folder(root / folder)
    write = partial(_write, split=split, root=root)
    annotations = []
    for i, of_image in zip(indices, pool.map(write, indices, chunksize=50)):
        annotations += [dict(a, image_id=i) for a in of_image]
    images = [
        dict(id=i, file_name=f'{i:05d}.jpg', width=SIZE, height=SIZE)
        for i in indices
    ]
    categories = [dict(id=i + 1, name=c) for i, c in enumerate(CLASSES)]
    annotations = [dict(a, id=i + 1) for i, a in enumerate(annotations)]
    with open(root / f'coco/annotations/instances_{coco}.json', 'w') as file:
        json.dump(
            dict(
                images=images, annotations=annotations, categories=categories),
            file)


def write(root, counts=SPLITS, first=0):
    """Draw the set into a new folder, which appears when it is complete.

    Args:
        root (str): folder. If it is there already, nothing is done.
        counts (dict): split -> number of images.
        first (int): index of the first image of each split.

    Raises:
        Refused: if it cannot be written.
    """
    root = Path(root)
    if root.exists():
        return
    unfinished = root.with_name(f'{root.name}.{uuid4().hex[:8]}.part')
    try:
        with files.os_errors_refused(f'{root} cannot be written',
                                     'name another place'):
            with ProcessPoolExecutor(os.cpu_count()) as pool:
                for split, count in counts.items():
                    _write_split(split, unfinished,
                                 range(first, first + count), pool)
            unfinished.rename(root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('folder', metavar='DIR', help='to make')
    try:
        write(parser.parse_args().folder)
    except Refused as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
