"""Splits and classes are found in the names of folders, or refused."""
import gc
from collections import Counter

import pytest
from helpers.folder_trees import random_tree, write

from mmfd.data.image_folder import ImageFolder
from mmfd.data.splits import find_splits, read_name
from mmfd.errors import Refused


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    gc.freeze()  # mmengine collects garbage for every data set
    yield
    gc.unfreeze()


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(root)


def counts(root, split, **kwargs):
    """Class -> number of images, as a data set reads a folder."""
    data = ImageFolder(str(root), split, pipeline=[], **kwargs)
    names = data.metainfo['classes'] or ('', )
    return Counter(names[data.get_data_info(i).get('gt_label', 0)]
                   for i in range(len(data)))


@pytest.mark.parametrize('seeds', [
    range(20),
    pytest.param(range(20, 200), marks=pytest.mark.full),
])
def test_random_trees_are_read_rightly_or_have_two_readings(tmp_path, seeds):
    """180 of 200 are read; each of the others can be read in two ways."""
    for seed in seeds:
        tree, root = random_tree(seed), tmp_path / str(seed)
        write(root, tree)
        if tree.splits is None:
            with pytest.raises(Refused, match='dataset.splits'):
                counts(root, 'train', with_label=True)
            continue
        if share := tree.splits.get('share'):
            labelled = '' not in share
            train, val = (
                counts(root, s, with_label=labelled, held_out=0.3)
                for s in ('train', 'val'))
            assert train + val == share, tree.what
            assert val.total() == round(0.3 * share.total())
            continue
        for split, expected in tree.splits.items():
            labelled = '' not in expected
            assert counts(
                root, split, with_label=labelled) == expected, tree.what


@pytest.mark.parametrize('name, split', [
    ('train', 'train'), ('Train', 'train'), ('training_set', 'train'),
    ('images_train', 'train'), ('TrainImages', 'train'), ('trainval', 'train'),
    ('train_val', 'train'), ('valid', 'val'), ('VAL2017', 'val'),
    ('test set', 'test'), ('testset', 'test'), ('train (1)', 'train')
])  # yapf: disable
def test_usual_spellings_name_a_split_alone(name, split):
    assert read_name(name) == (split, ())


@pytest.mark.parametrize('name', [
    'trainer', 'contest', 'valley', 'latest', 'cat', 'sunset', 'data', '1',
    'streetcar', 'devil', 'train_test'
])  # yapf: disable
def test_words_that_only_contain_one_name_none(name):
    assert read_name(name) is None


def test_two_sets_are_splits_and_never_classes(tmp_path):
    root = touch(
        tmp_path,
        *(f'{split}/{name}/{i}.jpg'
          for split, n in (('training_set', 12), ('test_set', 4))
          for name in ('cat', 'dog') for i in range(n)))
    train = ImageFolder(root, 'train', pipeline=[], with_label=True)
    assert train.metainfo['classes'] == ('cat', 'dog')
    assert train.source == (
        f'train: 24 images of {root}/training_set, in 2 classes (cat, dog)')
    assert counts(root, 'val', with_label=True) == dict(cat=4, dog=4)


def test_junk_and_empty_classes_are_no_classes(tmp_path):
    root = touch(tmp_path, 'train/cat/0.jpg', 'train/dog/0.jpg',
                 'train/cat/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg',
                 'train/__MACOSX/cat/._0.jpg', 'train/__MACOSX/dog/0.jpg',
                 'train/bird/notes.txt', 'train/.ipynb_checkpoints/0.jpg',
                 'train/lost+found/#123.jpg', '$RECYCLE.BIN/S-1-5/0.jpg')
    assert counts(
        root, 'train', with_label=True, held_out=0.) == dict(
            cat=1, dog=1)


def test_a_test_set_without_labels_does_not_validate_a_labelled_one(tmp_path):
    root = touch(tmp_path,
                 *(f'train/{c}/{i}.jpg' for c in 'ab' for i in range(10)),
                 'test/1.jpg', 'test/2.jpg')
    train, val = (
        counts(root, split, held_out=0.2) for split in ('train', 'val'))
    assert train + val == dict(a=10, b=10) and val.total() == 4
    assert counts(root, 'test') == {'': 2}


def test_classes_that_only_validation_has_are_refused(tmp_path):
    root = touch(tmp_path, 'train/cat/0.jpg', 'train/dog/0.jpg',
                 'val/Cat/0.jpg', 'val/dog/0.jpg')
    with pytest.raises(
            Refused,
            match='^Cat of the validation images are no '
            'classes of the training images, which are cat, dog'):
        counts(root, 'train', with_label=True)


def test_classes_that_validation_lacks_are_named(tmp_path):
    root = touch(tmp_path, 'train/cat/0.jpg', 'train/dog/0.jpg',
                 'val/dog/0.jpg', 'figures/plot.png')
    val = ImageFolder(root, 'val', pipeline=[], with_label=True)
    assert val.source == (
        f'val: 1 images of {root}/val, in 2 classes (cat, dog); none of cat; '
        f'left out: {root}/figures')
    assert val.get_data_info(0)['gt_label'] == 1


def test_chosen_folders_take_the_place_of_names(tmp_path):
    root = touch(tmp_path, 'photos/cat/0.jpg', 'more/dog/0.jpg',
                 'check/cat/0.jpg', 'train/dog/0.jpg', 'bus/0.jpg')
    chosen = dict(train=['photos', 'more'], val='check')
    assert counts(root, 'train', splits=chosen) == dict(cat=1, dog=1)
    assert counts(root, 'val', splits=chosen) == dict(cat=1)
    whole = counts(root, 'train', splits={}, with_label=True, held_out=0.)
    assert whole == dict(bus=1, check=1, more=1, photos=1, train=1)
    with pytest.raises(Refused, match='no images in the folder picture that'):
        counts(root, 'train', splits=dict(train='picture'))
    with pytest.raises(Refused, match=r"names \['dev'\]: expected are train"):
        counts(root, 'train', splits=dict(dev='check'))


@pytest.mark.parametrize('above, splits, outer', [
    ('', {}, dict(art=6, photo=6)),
    ('train/', dict(train='train'), dict(art=6, photo=6)),
])  # yapf: disable
def test_folders_with_the_same_classes_in_them_can_be_domains_or_classes(
        tmp_path, above, splits, outer):
    root = touch(
        tmp_path,
        *(f'{above}{domain}/{name}/{i}.jpg' for domain in ('art', 'photo')
          for name in ('bus', 'cat') for i in range(3)),
        *(f'val/bus/{i}.jpg' for i in range(2 * bool(above))))
    domains = [f'{above}art', f'{above}photo']
    with pytest.raises(
            Refused,
            match='bus, cat are in each of art, photo, and either can'
            ' be the classes: set dataset.splits to the folders that hold the '
            rf'classes, as dict\(train=\[.{domains[0]}'):
        counts(root, 'train', with_label=True)
    without = counts(root, 'train', held_out=0.)
    assert without == {'': 12}  # FD needs no labels
    assert counts(
        root,
        'train',
        splits=dict(train=domains),
        held_out=0.,
        with_label=True) == dict(
            bus=6, cat=6)
    assert counts(
        root, 'train', splits=splits, held_out=0., with_label=True) == outer


def test_folders_that_share_few_names_are_classes(tmp_path):
    """Views of a class, one folder in each, or classes of several kinds."""
    for i, folders in enumerate(('a/front b/front', 'a/x a/y b/y b/z',
                                 'a/x a/y b/x b/y b', 'a/x a/y')):
        root = touch(tmp_path / str(i),
                     *(f'train/{f}/0.jpg' for f in folders.split()),
                     'val/b/0.jpg')
        touch(tmp_path / str(i), 'train/b/1.jpg')
        assert counts(root, 'train', with_label=True).keys() == {'a', 'b'}


KNOWN = dict(  # data set -> folders, classes of its splits
    intel=('seg_train/seg_train/sea seg_test/seg_test/sea seg_pred/seg_pred',
           dict(train='sea', test='sea')),
    tiny_imagenet=('train/n01/images train/n02/images val/images test/images',
                   dict(train='n01 n02', val='', test='')),
    ade=('ADE/images/training ADE/images/validation ADE/annotations/training',
         dict(train='', val='')),
    mmseg=('img_dir/train img_dir/val ann_dir/train ann_dir/val',
           dict(train='', val='')),
    dogs=('train/train test1/test1', dict(train='', test='')),
    letters=('asl_train/asl_train/A asl_train/asl_train/B asl_test/asl_test',
             dict(train='A B', test='')),
    x_ray=('chest/train/N train/N train/P val/N test/P',
           dict(train='N P', val='N', test='P')),
    cityscapes=('leftImg8bit/train/ulm leftImg8bit/val/bonn gtFine/train/ulm',
                dict(train='ulm', val='bonn')),
    market=('bounding_box_train bounding_box_test query gt_bbox',
            dict(train='', test='')),
    yolo=('train/images valid/images', dict(train='', val='')),
    super_resolution=('DIV2K_train_HR DIV2K_valid_HR', dict(train='', val='')),
    scripted=('cat dog train/cat train/dog val/cat',
              dict(train='cat dog', val='cat')),
    caltech=('101_ObjectCategories/ant 101_ObjectCategories/bee', {
        None: 'ant bee'
    }),
    pets=('images annotations/trimaps', {
        None: ''
    }),
    crowns=('images with_mask without_mask', {
        None: 'images with_mask without_mask'
    }))


@pytest.mark.parametrize('name', KNOWN)
def test_known_data_sets_are_read_as_they_are_meant(name):
    folders, expected = KNOWN[name]
    layout = find_splits(dict.fromkeys(folders.split(), 1))
    assert {
        split: ' '.join(sorted(layout.classes(split) - {''}))
        for split in layout.folders
    } == expected


@pytest.mark.parametrize('images, masks', [
    ('VOC2007/JPEGImages VOC2012/JPEGImages',
     'VOC2007/SegmentationClass VOC2012/SegmentationObject'),
    ('stage1_train/a1/images stage1_train/b2/images stage1_test/c/images',
     'stage1_train/a1/masks stage1_train/b2/masks'),
    ('Train/Rural/images_png Train/Urban/images_png Val/Rural/images_png',
     'Train/Rural/masks_png Train/Urban/masks_png Val/Rural/masks_png'),
    ('DUTS-TR/DUTS-TR-Image DUTS-TE/DUTS-TE-Image',
     'DUTS-TR/DUTS-TR-Mask DUTS-TE/DUTS-TE-Mask'),
    ('scene1/rgb scene2/rgb', 'scene1/semantic scene2/depth'),
    ('images', 'labels labels_colored'),
])
def test_masks_are_no_images_however_deep_they_lie(images, masks):
    layout = find_splits(dict.fromkeys(f'{images} {masks}'.split(), 1))
    assert {*images.split()} <= layout.places.keys()
    assert not {*masks.split()} & layout.places.keys()
    assert not layout.doubt


def test_masks_beside_their_images_are_left_out_and_counted(tmp_path):
    names = ('benign/a (1).png benign/a (1)_mask.png benign/a (1)_mask_1.png '
             'benign/b.jpg normal/b_mask.png normal/c_seg.png normal/c.jpg')
    names = names.replace(' (', '|').split()  # one name has a blank
    root = touch(tmp_path, *(name.replace('|', ' (') for name in names))
    data = ImageFolder(root, 'train', [], with_label=True, held_out=0.)
    assert counts(
        root, 'train', with_label=True, held_out=0.) == dict(
            benign=2, normal=2)
    assert 'left out: 3 masks beside their images' in data.source


def test_a_class_of_trains_stays_a_class():
    folders = [
        f'{split}/{name}' for split in ('train', 'test')
        for name in ('apple', 'train', 'tank')
    ]
    layout = find_splits(dict.fromkeys(folders, 1))
    assert layout.classes('train') == {'', 'apple', 'train', 'tank'}
    assert layout.places['test/train'] == ('test', 'train')
