"""The pages on own segmentation and detection sets: followed on toy images."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import command
from helpers.pages import ROOT, python_blocks
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from PIL import Image

from mmfd.data.toy_images import CLASSES
from mmfd.launch.config_options import read_config

IMAGES = {  # part 1 of the config of each page, for the toy images
    'segmentation': '''
data_root = {root!r} + '/ade'
train = dict(
    img_path='images/training', seg_map_path='annotations/training')
val = dict(
    img_path='images/validation', seg_map_path='annotations/validation')
classes = ['background', *{classes!r}]
palette = [[20 * i, 0, 255] for i in range(11)]
ignored = 255
img_suffix, seg_map_suffix = '.jpg', '.png'
size = (64, 48)
''',
    'detection': '''
data_root = {root!r} + '/coco/'
train = dict(
    ann_file='annotations/instances_train2017.json',
    data_prefix=dict(img='train2017/'))
val = dict(
    ann_file='annotations/instances_val2017.json',
    data_prefix=dict(img='val2017/'))
classes = {classes!r}
size = (64, 64)
''',
}
SCHEDULES = {
    'segmentation': 'iterations, warmup, batch_size, lr = 6, 2, 4, 2e-3\n',
    'detection': 'epochs, warmup, batch_size, lr = 1, 2, 40, 1e-3\n',
}
PARTS = re.compile(r'^# (?:\d\. |What follows).*\n', re.M)


def shown(task):
    """(config, other parts 2 and 3 of it) that a page shows."""
    blocks = python_blocks(ROOT / f'docs/own_{task}.md')
    [config] = [block for block in blocks if '_base_' in block]
    return config, blocks[-1]


def written(task, root, folder, larger=False):
    """The page's config for the toy images, or for a ViT-B: its path."""
    config, student = shown(task)
    base, _, small, _, rest = PARTS.split(config)
    images = IMAGES[task].format(root=str(root), classes=[*CLASSES])
    path = folder / f'my_{task}.py'
    path.write_text(''.join([base, images, student, rest] if larger else
                            [base, images, small, SCHEDULES[task], rest]))
    return path


@pytest.mark.parametrize('task', IMAGES)
def test_config_shown_builds_a_model_of_as_many_classes(
        task, shapes_root, tmp_path):
    cfg = read_config(written(task, shapes_root, tmp_path))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        cfg.model.backbone.init_cfg = None
        for head in ('decode_head', 'auxiliary_head'):
            if head in cfg.model:
                assert cfg.model[head].norm_cfg.type == 'BN'
        model = MODELS.build(cfg.model)
    if task == 'segmentation':
        counts = [
            model.decode_head.num_classes, model.auxiliary_head.num_classes
        ]
        assert counts == [11, 11]
    else:
        assert model.roi_head.bbox_head.num_classes == 10


def test_masks_of_objects_are_added_as_shown(shapes_root, tmp_path):
    path = written('detection', shapes_root, tmp_path)
    [*_, masks, _] = python_blocks(ROOT / 'docs/own_detection.md')
    text = path.read_text()
    for old, new in (('models/faster-rcnn_r50_fpn',
                      'models/mask-rcnn_r50_fpn'), ('datasets/coco_detection',
                                                    'datasets/coco_instance'),
                     ('with_bbox=True', 'with_bbox=True, with_mask=True'),
                     ('    roi_head=dict(\n', masks)):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text)
    cfg = read_config(path)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    maps = model.roi_head.mask_head(torch.zeros(2, 48, 14, 14))
    assert maps.shape == (2, 10, 28, 28)


def test_masks_in_colours_become_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    colours = np.array([[(128, 0, 0), (128, 128, 128), (1, 2, 3)]], np.uint8)
    Path('coloured/train').mkdir(parents=True)
    Image.fromarray(colours).save('coloured/train/a.png')
    exec(python_blocks(ROOT / 'docs/own_segmentation.md')[0], {})
    mask = Image.open('data/mine/annotations/train/a.png')
    assert np.array(mask).tolist() == [[1, 0, 255]]


def test_masks_with_a_palette_are_read_by_their_numbers(tmp_path):
    mask = Image.fromarray(np.array([[0, 3], [1, 0]], np.uint8))
    mask.putpalette([200, 100, 50] * 256)
    mask.save(tmp_path / 'a.png')
    with DefaultScope.overwrite_default_scope('mmseg'):
        load = TRANSFORMS.build(dict(type='mmseg.LoadAnnotations'))
        read = load(
            dict(
                seg_map_path=str(tmp_path / 'a.png'),
                seg_fields=[],
                label_map=None,
                reduce_zero_label=False))
    assert read['gt_seg_map'].tolist() == [[0, 3], [1, 0]]


def test_boxes_of_yolo_become_those_of_coco(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in 'images', 'labels':
        Path('data/mine', folder, 'train').mkdir(parents=True)
    for name in 'a', 'b':  # b has no object
        Image.new('RGB', (100, 50)).save(f'data/mine/images/train/{name}.jpg')
    Path('data/mine/labels/train/a.txt').write_text('1 0.5 0.5 0.2 0.4\n')
    exec(python_blocks(ROOT / 'docs/own_detection.md')[0], {})
    file = json.loads(Path('data/mine/train.json').read_text())
    assert [image['file_name']
            for image in file['images']] == ['a.jpg', 'b.jpg']
    [box] = file['annotations']
    assert box['bbox'] == pytest.approx([40, 15, 20, 20])
    assert box['area'] == pytest.approx(400)
    assert (box['image_id'], box['category_id']) == (1, 2)
    assert file['categories'][1] == dict(id=2, name='car')


@pytest.mark.full
@pytest.mark.parametrize('task', IMAGES)
def test_larger_student_shown_fits_the_config(task, shapes_root, tmp_path):
    cfg = read_config(written(task, shapes_root, tmp_path, larger=True))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        cfg.model.backbone.init_cfg = None
        model = MODELS.build(cfg.model)
    sizes = [level[-2].in_channels for level in model.neck.levels
             ] if task == 'detection' else model.decode_head.in_channels
    assert [*sizes] == ([256] * 4 if task == 'detection' else [768] * 4)


@pytest.mark.full
@pytest.mark.parametrize('task', IMAGES)
def test_pages_followed_end_with_a_picture_of_each_image(
        task, shapes_root, tmp_path, monkeypatch):
    config = written(task, shapes_root, tmp_path)
    monkeypatch.chdir(tmp_path)
    command('train', config.name, '--dry-run')
    command('train', config.name)
    last = Path(Path('work_dirs', config.stem, 'last_checkpoint').read_text())
    output = command('test', config.name, last)
    assert ('mIoU' if task == 'segmentation' else 'bbox_mAP') in output
    images = shapes_root / ('ade/images/validation'
                            if task == 'segmentation' else 'coco/val2017')
    command('draw', config.name, last, images, '--out', 'predictions')
    names = sorted(path.stem for path in images.iterdir())
    assert sorted(x.stem for x in Path('predictions').iterdir()) == names
    picture = np.array(Image.open(f'predictions/{names[0]}.png'))
    original = np.array(Image.open(next(images.glob(f'{names[0]}.*'))))
    assert picture.shape == original.shape
    if task == 'segmentation':  # tinted by class, all over
        blue = 0.4 * original[..., 2] + 0.6 * 255
        assert (abs(picture[..., 2] - blue) < 2).mean() > 0.2
