"""Labels, classes and batches are checked before training."""
import gc
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.commands import refused
from helpers.images import solid
from helpers.label_sets import data_set, random_labels, write
from PIL import Image
from torch.utils.data import DataLoader

from mmfd.data import toy_images
from mmfd.data.image_folder import ImageFolder
from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.launch.checks import dataset_checks
from mmfd.launch.checks.categories import check as check_categories
from mmfd.launch.failed_start import build_errors_refused, data_errors_refused


def test_head_of_another_number_of_classes_is_refused(project, unchanged):
    message = refused('train', project / 'finetune.py', '--work-dir',
                      project / 'run', '--cfg-options',
                      'model.backbone.init_cfg=None',
                      'model.head.num_classes=1000')
    assert 'have 10 classes, the model 1,000: set --cfg-options ' in message
    assert unchanged()


@pytest.mark.parametrize('option', ['None', 'False'])
def test_model_that_learns_from_labels_is_refused_a_folder_without(
        project, unchanged, option):
    (project / 'flat').mkdir()
    for i in range(40):
        Image.new('RGB', (32, 32), (i, 9, 9)).save(project / f'flat/{i}.png')
    message = refused('train', project / 'finetune.py', '--work-dir',
                      project / 'run', '--data-root', project / 'flat',
                      '--cfg-options', 'model.backbone.init_cfg=None',
                      f'train_dataloader.dataset.with_label={option}',
                      f'val_dataloader.dataset.with_label={option}')
    assert ('the model learns from labels, and the images of train_dataloader '
            'have none (gt_label): set with_label=True') in message
    assert unchanged('flat')


def test_labels_are_missed_in_data_sets_of_the_other_libraries(
        shapes_root, tmp_path):
    from mmdet.datasets import CocoDataset
    write(tmp_path, [0, 1, 2])
    root = shapes_root / 'coco'
    load = dict(type='LoadImageFromFile')
    boxes = CocoDataset(
        data_root=str(root),
        data_prefix=dict(img='train2017/'),
        ann_file='annotations/instances_train2017.json',
        metainfo=dict(classes=toy_images.CLASSES),
        pipeline=[load, dict(type='mmdet.PackDetInputs')])
    maps = data_set(tmp_path, 3, data_prefix=dict(img_path='images'))
    for data, head, field in ((boxes, 'bbox_head', 'gt_instances.labels'),
                              (maps, 'decode_head', 'gt_sem_seg')):
        head = {head: dict(num_classes=len(data.metainfo['classes']))}
        with pytest.raises(
                Refused,
                match='the model learns from labels, and '
                rf'the images .* have none \({field}\): set '):
            check(head, data)


def test_heads_of_edges_may_have_one_class():
    data = dict(classes=('a', 'b', 'c'))
    model = dict(
        decode_head=dict(num_classes=3), auxiliary_head=[dict(num_classes=1)])
    dataset_checks.check_classes(dict(model=model), 'train', data)
    model['auxiliary_head'][0]['num_classes'] = 2
    with pytest.raises(
            Refused,
            match=r'set --cfg-options '
            r'model\.auxiliary_head\.0\.num_classes=3$'):
        dataset_checks.check_classes(dict(model=model), 'train', data)


class LoadAnnotations:
    """Of mmseg: reads a map of labels."""

    def __call__(self, info):
        if info['seg_map_path'] == 'broken.png':
            raise FileNotFoundError('broken.png')
        return dict(gt_seg_map=np.array([[0, info['label']]]))


class Maps(list):
    """A dataset as mmseg's."""
    metainfo = dict(classes=('a', 'b'))
    pipeline = SimpleNamespace(transforms=[LoadAnnotations()])
    reduce_zero_label, ignore_index = False, 255
    get_data_info = list.__getitem__


def check(model, dataset, loop='train', **evaluators):

    class Loader(list):
        pass

    batches = Loader([0])
    batches.dataset = dataset
    dataset_checks.check(dict(model=model, **evaluators), {loop: batches})


def test_labels_and_their_maps_are_looked_at_in_advance():
    good = dict(seg_map_path='a.png', label=1)
    check({}, Maps([good, dict(good, label=255)]))
    with pytest.raises(
            Refused,
            match=r'b.png has the labels \[7\], and there are 2 classes'):
        check({}, Maps([good, dict(seg_map_path='b.png', label=7)]))
    with pytest.raises(Refused, match='label map broken.png cannot be read'):
        check({}, Maps([dict(good, seg_map_path='broken.png')]))


UPON = dict(reduce_zero_label=True)


@pytest.mark.parametrize('labels, kwargs, lines', [
    ([0, 1, 2, 4, 5, 6], UPON, ['ignores the label 0 of the files and takes 1 '
                                'for class 0. That no map has 7 leaves it']),
    ([0, 1, 2, 3, 4, 5, 6, 7], UPON, []),
    ([1, 2, 4], UPON, []),
    ([1, 2, 4], {}, ['no map has the label 0, class 0: if 1 is class 0, set '
                     'reduce_zero_label=True']),
    ([0, 2, 4], {}, []),
])  # yapf: disable
def test_what_maps_leave_open_of_reduce_zero_label_is_said(
        tmp_path, monkeypatch, labels, kwargs, lines):
    said = []
    monkeypatch.setattr(log, 'info', said.append)
    write(tmp_path, labels)
    check({}, data_set(tmp_path, 7, **kwargs))
    said = [line for line in said if 'reduce_zero_label' in line]
    assert len(said) == len(lines)
    assert all(line in text for line, text in zip(lines, said))


@pytest.mark.parametrize('labels, reduced, line', [
    ([0, 1, 2, 3, 4, 5, 6], True, 'takes 1 for background. That no map has 7'),
    ([0, 1, 2, 3, 4, 5, 6], False, 'LoveDADataset as it is published has '
     'reduce_zero_label=True, and False is set'),
])  # yapf: disable
def test_data_set_by_its_published_name_is_taken_for_it(
        tmp_path, monkeypatch, labels, reduced, line):
    """Of LoveDA's seven classes, with 0 for no data, a part has six."""
    write(tmp_path, labels)
    named = data_set(tmp_path, 7)
    from mmseg.datasets import LoveDADataset
    data = LoveDADataset(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='maps'),
        pipeline=[*named.pipeline.transforms],
        reduce_zero_label=reduced)
    said = []
    monkeypatch.setattr(log, 'info', said.append)
    check({}, data)
    assert any(line in text for text in said)


def picture(tmp_path, mode):
    """Replace the last label map by another picture of labels 0 to 2."""
    write(tmp_path, [0, 1, 2, 1])
    file = tmp_path / 'maps/2.png'
    Image.open(file).convert(mode).save(file)


@pytest.mark.parametrize('mode, numbers', [('RGB', 3), ('LA', 2)])
def test_coloured_pictures_are_no_label_maps(tmp_path, mode, numbers):
    picture(tmp_path, mode)
    with pytest.raises(
            Refused,
            match=f'2.png has {numbers} numbers a pixel, as '
            'coloured pictures have'):
        check({}, data_set(tmp_path, 3))


def test_map_of_another_image_is_refused(tmp_path):
    """In training one of half the size may be; later it could not."""
    write(tmp_path, [0, 1, 2, 1, 0, 1])
    file, data = tmp_path / 'maps/1.png', data_set(tmp_path, 3)
    rows = Image.open(file)
    rows.resize((3, 2), Image.Resampling.NEAREST).save(file)
    check({}, data)
    message = r'1.png has {} pixels, and its image .*/1.png, upright, 4 x 6: '
    with pytest.raises(Refused, match=message.format('2 x 3')):
        check({}, data, loop='val')
    rows.transpose(Image.Transpose.ROTATE_90).save(file)
    with pytest.raises(Refused, match=message.format('6 x 4')):
        check({}, data)


def test_masks_of_black_and_white_are_refused(tmp_path):
    """Else white would be ignored, and black the only thing to learn."""
    write(tmp_path, [0, 255, 255, 0])
    with pytest.raises(
            Refused,
            match='0 and 255 alone, and 255 is ignored, so that '
            'nothing is class 1: write 1 in the place of 255'):
        check({}, data_set(tmp_path, 2))
    check({}, data_set(tmp_path, 3))
    write(tmp_path, [0, 255, 1, 0])
    check({}, data_set(tmp_path, 2))


@pytest.mark.parametrize('label, kind, mode', [
    (26001, np.uint16, 'I;16'),
    (256, np.int32, 'I'),
    (1.5, np.float32, 'F'),
    (-1, np.int32, 'I'),
])
def test_labels_of_more_than_a_byte_are_refused(tmp_path, label, kind, mode):
    """mmseg keeps their last byte: 256 would be the first class."""
    write(tmp_path, [0, 1, 2])
    for file in (tmp_path / 'maps').iterdir():
        numbers = np.array([[0, 1, 2]] * 4, kind)
        Image.fromarray(numbers).save(file, format='TIFF')
    check({}, data_set(tmp_path, 3))
    numbers[0, 2] = label
    assert Image.fromarray(numbers).mode == mode
    Image.fromarray(numbers).save(tmp_path / 'maps/2.png', format='TIFF')
    with pytest.raises(Refused, match=f'2.png has the label {label}, and mms'):
        check({}, data_set(tmp_path, 3))


@pytest.mark.parametrize(
    'labels, kwargs',
    [
        ([255, 255], {}),
        ([0, 0], UPON),
        ([0, 255], UPON),  # black and white
    ])
def test_maps_of_which_nothing_counts_are_refused(tmp_path, labels, kwargs):
    write(tmp_path, labels)
    data = data_set(tmp_path, 3, **kwargs)
    with pytest.raises(Refused, match='every pixel of the label maps is ign'):
        check({}, data)
    check({}, data, loop='test')


def test_image_that_is_empty_is_refused_with_its_name(tmp_path):
    write(tmp_path, [0, 1, 2])
    (tmp_path / 'images/1.png').write_bytes(b'')
    with pytest.raises(Refused, match='the image .*/1.png cannot be read'):
        check({}, data_set(tmp_path, 3))


def test_dataset_of_no_host_library_is_not_asked_for_classes():
    check(dict(head=dict(num_classes=5)), [1, 2])


@pytest.mark.parametrize('seeds', [
    range(32),
    pytest.param(range(32, 200), marks=pytest.mark.full),
])
def test_random_label_sets_are_taken_or_refused_rightly(tmp_path, seeds):
    gc.freeze()  # mmengine collects garbage for every data set
    for seed in seeds:
        case, folder = random_labels(seed), tmp_path / str(seed)
        write(folder, case.labels)
        data = data_set(folder, case.classes, **case.dataset)
        loader = DataLoader(data, batch_size=1)
        loaders = dict(train=loader, val=loader)
        if case.advice is None:
            dataset_checks.check(case.cfg, loaders)
            continue
        with pytest.raises(Refused) as refused:
            dataset_checks.check(case.cfg, loaders)
        assert case.advice in str(refused.value), (seed, refused.value)
    gc.unfreeze()


def test_labels_beyond_the_head_are_refused(tmp_path):
    from mmpretrain.datasets import CustomDataset
    for i in range(4):
        solid(tmp_path / f'{i}.png')
    for labels, advice in (((1, 2, 3, 1), 'the labels begin with 1, subtract'),
                           ((0, 1, 2, 5), 'set num_classes of the head')):
        (tmp_path / 'labels.txt').write_text(''.join(
            f'{i}.png {label}\n' for i, label in enumerate(labels)))
        data = CustomDataset(
            data_root=str(tmp_path), ann_file='labels.txt', pipeline=[])
        with pytest.raises(
                Refused,
                match=f'has the label {max(labels)}, and there are 3 '
                f'classes, 0 to 2: {advice}'):
            check(dict(head=dict(num_classes=3)), data, loop='val')


def test_folder_without_images_is_no_class_of_the_head(tmp_path):
    for name in 'cat', 'dog':
        solid(tmp_path / f'train/{name}/0.png')
    (tmp_path / 'train/bird').mkdir()
    data = ImageFolder(
        str(tmp_path), 'train', pipeline=[], with_label=True, held_out=0.)
    with pytest.raises(
            Refused, match='the images have 2 classes, the model 3'):
        check(dict(head=dict(num_classes=3)), data)


def test_classes_of_validation_are_those_of_training():
    train, val = Maps([]), Maps([])
    val.metainfo = dict(classes=('b', 'a'))
    loaders = {
        loop: SimpleNamespace(dataset=data)
        for loop, data in dict(train=train, val=val).items()
    }
    with pytest.raises(
            Refused,
            match='training images have the classes a, b, '
            'the validation images b, a: set metainfo.classes'):
        dataset_checks.check(
            dict(model=dict(decode_head=dict(num_classes=2))), loaders)


def test_label_maps_are_padded_with_what_heads_ignore(tmp_path):
    write(tmp_path, [0, 1, 2, 3])
    data = data_set(tmp_path, 3)
    model = dict(
        data_preprocessor=dict(size=(8, 8), seg_pad_val=255),
        decode_head=dict(num_classes=3, ignore_index=3))
    with pytest.raises(
            Refused,
            match='padded with 255, and the heads ignore '
            r'3: set --cfg-options model\.data_preprocessor\.'
            'seg_pad_val=3'):
        check(model, data)
    model['data_preprocessor']['size'] = (4, 4)
    check(model, data)


def objects365(folder, ids=(1, 2), patches=('patch0', 'patch1')):
    """mmdet's data set of two images in two patches, with a box each."""
    from mmdet.datasets import Objects365V2Dataset
    for patch in patches:
        (folder / 'train' / patch).mkdir(parents=True)
    boxes = [
        dict(
            id=i,
            image_id=image,
            category_id=1,
            bbox=[0, 0, 9, 9],
            area=81,
            iscrowd=0) for image, i in enumerate(ids)
    ]
    (folder / 'boxes.json').write_text(
        json.dumps(
            dict(
                images=[
                    dict(
                        id=i,
                        file_name=f'images/v2/patch{i}/{i}.jpg',
                        width=32,
                        height=32) for i in range(2)
                ],
                annotations=boxes,
                categories=[dict(id=1, name='Person')])))
    return Objects365V2Dataset(
        data_root=str(folder),
        data_prefix=dict(img='train/'),
        ann_file='boxes.json',
        metainfo=dict(classes=('Person', )),
        pipeline=[])


def test_patch_of_objects365_that_is_not_there_is_named(tmp_path):
    data = objects365(tmp_path / 'whole')
    dataset_checks._check_annotations(data)
    data = objects365(tmp_path / 'part', patches=['patch1'])
    with pytest.raises(
            Refused, match=r'boxes.json names images in 1 folders.*patch0\)'):
        dataset_checks._check_annotations(data)


def test_ids_of_objects365_that_are_there_twice_are_one_message(tmp_path):
    with pytest.raises(
            Refused,
            match=r'boxes.json. are not unique! Number them anew in the '
            'ann_file of train_dataloader, each with an id of its own'):
        with data_errors_refused('train', {}):
            objects365(tmp_path, ids=(7, 7))


@pytest.mark.parametrize('categories, message', [
    ([(1, 'Hat'), (2, 'Car')], None),
    ([(3, 'Sofa'), (1, 'Hat'), (2, 'Car')], None),
    ([(1, 'Hat'), (1, 'Car')], 'has several categories of the id 1: give'),
    ([(1, 'Hat'), (2, 'Car'), (3, 'Car')], 'has 3 categories for 2 classes'),
    ([(1, 'Car'), (2, 'Hat')
      ], 'has the categories Car, Hat, and the classes are Hat, Car; labels'),
    ([(1, 'Hat')], 'has categories for 1 of the 2 classes'),
])
def test_class_is_one_category_at_its_place(tmp_path, categories, message):
    from mmdet.datasets import CocoDataset
    box = dict(image_id=1, bbox=[0, 0, 9, 9], area=81, iscrowd=0)
    (tmp_path / 'a.json').write_text(
        json.dumps(
            dict(
                categories=[dict(id=i, name=n) for i, n in categories],
                images=[dict(id=1, file_name='a.png', width=9, height=9)],
                annotations=[dict(box, id=1, category_id=1)])))
    data = CocoDataset(
        data_prefix=dict(img=str(tmp_path)),
        ann_file=str(tmp_path / 'a.json'),
        metainfo=dict(classes=('Hat', 'Car')),
        pipeline=[])
    if message is None:
        check_categories(data)
    else:
        with pytest.raises(Refused, match=f'a.json {message}'):
            check_categories(data)


def test_missing_package_of_instaboost_is_named(monkeypatch):
    from mmdet.datasets.transforms import InstaBoost
    monkeypatch.setitem(sys.modules, 'instaboostfast', None)
    with pytest.raises(
            Refused, match='cannot be built: .*pip install instaboostfast'):
        with build_errors_refused():
            InstaBoost()
