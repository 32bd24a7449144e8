"""Check model, images and labels before training.

What is wrong is refused with the setting to change. The hosts would train on
it for nothing, or fail with an index error in a loss.
"""
import os
from numbers import Integral

from mmengine.dist import get_world_size
from mmengine.structures import BaseDataElement

from mmfd.data.image_folder import ImageFolder
from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.launch.checks import categories, label_maps
from mmfd.launch.checks.label_settings import (NEEDED, class_counts,
                                               ignored_labels, no_labels,
                                               sections)
from mmfd.training.cached_teacher import seeded
from mmfd.weights.weight_files import first_few

LABELS = 2000  # of images, looked at in the same way


def check(cfg, loaders):
    """Check that loaders give batches, and that their labels fit the model.

    A line in the log says what there is to train on and to evaluate.

    Args:
        cfg (Config): of the run.
        loaders (dict): `train`, `val` or `test` -> DataLoader, of any host
            library's dataset.

    Raises:
        Refused: if labels have no class or classes no labels, if the model
            has another number of classes, ignores another label, or needs
            labels where there are none, or if there is no batch.
    """
    of_host = {
        loop: loader.dataset
        for loop, loader in loaders.items()
        if hasattr(loader.dataset, 'metainfo')
    }
    for loop, dataset in of_host.items():
        inner = _innermost(dataset)
        _log_source(loop, dataset, inner)
        _check_annotations(inner)
        check_classes(cfg, loop, dataset.metainfo)
        _check_labels(cfg, loop, dataset, inner)
    if {'train', 'val'} <= of_host.keys():
        _check_same_classes(cfg, of_host['train'], of_host['val'])
    if 'train' in loaders:
        _check_length(loaders['train'])


def check_classes(cfg, loop, metainfo):
    """Check that heads, losses and metrics have as many classes as labels.

    Args:
        cfg (dict): of the run.
        loop (str): `train`, `val` or `test`.
        metainfo (dict): of the data set; it may name its classes.

    Raises:
        Refused: naming the settings.
    """
    if not metainfo.get('classes'):
        return
    wrong = [
        count for count in class_counts(sections(cfg, loop), metainfo)
        if count.value not in count.allowed and (
            loop == 'train' or not count.settings.endswith('class_weight'))
    ]  # a loss is computed in training alone
    if wrong:
        numbers = ' and '.join(sorted({f'{count.value:,}' for count in wrong}))
        raise Refused(
            f'the images have {len(metainfo["classes"])} classes, the model '
            f'{numbers}: set --cfg-options ' + ' '.join(count.options
                                                        for count in wrong))


def _check_length(loader):
    if not len(loader):
        raise Refused(
            f'{len(loader.dataset)} images give no batch of '
            f'{loader.batch_sampler.batch_size} on {get_world_size()} '
            'processes: lower train_dataloader.batch_size')


def _innermost(dataset):
    while hasattr(dataset, 'dataset'):  # within RepeatDataset, say
        dataset = dataset.dataset
    return dataset


def _log_source(loop, dataset, inner):
    """Say which images these are; mmfd's own data set has said it."""
    if isinstance(inner, ImageFolder) or not hasattr(inner, 'get_data_info'):
        return
    info = inner.get_data_info(0) if len(inner) else {}
    classes = dataset.metainfo.get('classes') or ()
    folder = os.path.dirname(str(info.get('img_path') or '')) or 'no folder'
    log.info(f'{loop}: {len(dataset):,} images, the first one of {folder}, ' +
             (f'in {len(classes):,} classes ({first_few(classes)})'
              if classes else 'without named classes'))


def _check_annotations(dataset):
    if hasattr(dataset, 'cat_ids'):  # of mmdet: boxes with categories
        categories.check(dataset)
        if not len(dataset):
            raise Refused(f'{dataset.ann_file} has no image with a box: check '
                          "--data-root, ann_file and the dataset's filter_cfg")
        _check_folders(dataset)


def _check_folders(dataset):
    """Check that the folders of images are there: Objects365 has 51."""
    infos = map(dataset.get_data_info, label_maps.spread(len(dataset), LABELS))
    folders = {os.path.dirname(info['img_path']) for info in infos}
    missing = [
        folder for folder in sorted(folders)
        if '://' not in folder and not os.path.isdir(folder)
    ]
    if missing:
        raise Refused(
            f'{dataset.ann_file} names images in {len(missing)} folders that '
            f'are not there ({first_few(missing)}): unpack them, or check '
            '--data-root and data_prefix')


def _check_same_classes(cfg, train, val):
    """Compare classes, where the model has a number for each of them."""
    names = [[*(d.metainfo.get('classes') or ())] for d in (train, val)]
    if all(names) and names[0] != names[1] and any(
            class_counts(dict(model=cfg['model']), train.metainfo)):
        raise Refused(
            f'the training images have the classes {first_few(names[0])}, '
            f'the validation images {first_few(names[1])}: set '
            'metainfo.classes of every dataset to the same names, in the same '
            'order')


def _check_labels(cfg, loop, dataset, inner):
    """Look at labels: whether there are any, and whether they have a class."""
    classes = len(dataset.metainfo.get('classes') or ())
    if hasattr(inner, 'reduce_zero_label'):  # of mmseg: maps of labels
        label_maps.check(cfg, loop, inner)
    elif len(inner) and hasattr(inner, 'get_data_info'):
        _check_numbers(inner, classes or _classes_of_head(cfg))
    if loop == 'train' and len(dataset):
        _check_sample(cfg, dataset)


def _classes_of_head(cfg):
    head = cfg['model'].get('head')
    return head.get('num_classes') if isinstance(head, dict) else None


def _check_numbers(dataset, classes):
    """Check the labels of images, which mmpretrain has as numbers."""
    infos = map(dataset.get_data_info, label_maps.spread(len(dataset), LABELS))
    labels = {
        info['gt_label']: info.get('img_path')
        for info in infos if isinstance(info.get('gt_label'), Integral)
    }
    if labels and classes and max(labels) >= classes:
        shifted = min(labels) == 1 and max(labels) == classes
        raise Refused(
            f'{labels[max(labels)]} has the label {max(labels)}, and there '
            f'are {classes} classes, 0 to {classes - 1}: ' +
            ('the labels begin with 1, subtract 1 in the ann_file'
             if shifted else 'set num_classes of the head, and of the loss, '
             'to the number of classes'))


def _check_sample(cfg, dataset):
    """Check that the first image comes with what the model learns from."""
    needed = [
        field for field, (parts, _) in NEEDED.items() if any(
            _learns(cfg['model'].get(part)) for part in parts)
    ]
    if not needed:
        return
    try:
        with seeded(0):
            sample = dataset[0]
    except OSError as error:
        raise Refused(
            f'the first image of train_dataloader cannot be read ({error}): '
            'check --data-root, data_prefix and ann_file') from error
    data = sample.get('data_samples') if isinstance(sample, dict) else None
    [field, *_] = needed
    if isinstance(data, BaseDataElement) and not _has(data, field):
        raise no_labels(field)
    if isinstance(data, BaseDataElement) and field == 'gt_sem_seg':
        _check_padding(cfg, sample['inputs'].shape[-2:])


def _learns(head):
    """Whether a head, or one of several, has classes to learn."""
    heads = head if isinstance(head, (list, tuple)) else [head]
    return any('num_classes' in h or str(h.get('type')).endswith('ClsHead')
               or 'bbox_head' in h or 'num_things_classes' in h for h in heads
               if isinstance(h, dict))


def _has(data, field):
    for name in field.split('.'):
        if name not in data:
            return False
        data = data.get(name)
    return True


def _check_padding(cfg, size):
    """Check that heads ignore what label maps are padded with."""
    preprocessor = cfg['model'].get('data_preprocessor') or {}
    target = preprocessor.get('size')
    padded = target and (target[0] > size[0] or target[1] > size[1])
    pad = preprocessor.get('seg_pad_val', 255)
    ignored = {*ignored_labels(dict(model=cfg['model'])).values()}
    if padded and ignored and ignored != {pad}:
        label = min(ignored, key=str)
        raise Refused(
            f'label maps are padded with {pad}, and the heads ignore {label}: '
            f'set --cfg-options model.data_preprocessor.seg_pad_val={label}')
