"""Check model, images and labels before training.

What is wrong is refused with the setting to change. The hosts would train on
it for nothing, or fail with an index error in a loss.
"""
import copy
import os
from numbers import Integral

from mmengine.dist import get_world_size
from mmengine.structures import BaseDataElement

from mmfd.data.image_folder import ImageFolder
from mmfd.errors import Refused
from mmfd.hosts import log, openmmlab
from mmfd.launch.checks.label_settings import (IGNORED, class_counts,
                                               ignored_labels)
from mmfd.training.cached_teacher import seeded
from mmfd.weights.weight_files import first_few

LABEL_MAPS = 20  # read in advance, spread over the dataset
MORE_LABEL_MAPS = 200  # where these leave a doubt
LABELS = 2000  # of images, looked at in the same way
# What a sample has to have -> the parts of models that learn from it, and
# which settings of a data set give it
NEEDED = {
    'gt_sem_seg':
    (('decode_head', ), 'data_prefix.seg_map_path of the data set, and '
     'LoadAnnotations in its pipeline'),
    'gt_instances.labels':
    (('bbox_head', 'roi_head', 'mask_head', 'panoptic_head'),
     'ann_file of the data set, and LoadAnnotations in its pipeline'),
    'gt_label':
    (('head', ), 'with_label=True of the data set, with the images '
     'of each class in a folder of its own'),
}


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
    for loop, loader in loaders.items():
        _check_length(loop, loader)


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
        count for count in class_counts(_sections(cfg, loop), metainfo)
        if count.value not in count.allowed and (
            loop == 'train' or not count.settings.endswith('class_weight'))
    ]  # a loss is computed in training alone
    if wrong:
        numbers = ' and '.join(sorted({f'{count.value:,}' for count in wrong}))
        raise Refused(
            f'the images have {len(metainfo["classes"])} classes, the model '
            f'{numbers}: set --cfg-options ' + ' '.join(count.options
                                                        for count in wrong))


def _sections(cfg, loop):
    """The parts of a config that have to do with the labels of a loop."""
    names = ('model', ) if loop == 'train' else ('model', f'{loop}_evaluator')
    return {name: cfg[name] for name in names if cfg.get(name)}


def _check_length(loop, loader):
    if loop == 'train' and not len(loader):
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
        names = dataset.metainfo.get('classes') or ()
        if len(dataset.cat_ids) < len(names):
            raise Refused(
                f'{dataset.ann_file} has categories for '
                f'{len(dataset.cat_ids)} of the {len(names)} classes '
                f'({first_few(names)}): set metainfo.classes of '
                'every dataset to names of its categories')
        if not len(dataset):
            raise Refused(f'{dataset.ann_file} has no image with a box: check '
                          "--data-root, ann_file and the dataset's filter_cfg")


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
        _check_label_maps(cfg, loop, inner, classes)
    elif len(inner) and hasattr(inner, 'get_data_info'):
        _check_numbers(inner, classes or _classes_of_head(cfg))
    if loop == 'train' and len(dataset):
        _check_sample(cfg, dataset)


def _classes_of_head(cfg):
    head = cfg['model'].get('head')
    return head.get('num_classes') if isinstance(head, dict) else None


def _check_numbers(dataset, classes):
    """Check the labels of images, which mmpretrain has as numbers."""
    infos = map(dataset.get_data_info, _spread(len(dataset), LABELS))
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
        raise _no_labels(field)
    if isinstance(data, BaseDataElement) and field == 'gt_sem_seg':
        _check_padding(cfg, sample['inputs'].shape[-2:])


def _no_labels(field):
    return Refused(f'the model learns from labels, and the images of '
                   f'train_dataloader have none ({field}): set '
                   f'{NEEDED[field][1]}; or distil, which needs no labels '
                   '(configs/fd)')


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


def _labels_in_maps(dataset, read, count=LABEL_MAPS):
    """The labels in some of a data set's maps: label -> path of its map.

    Args:
        dataset (Dataset): of mmseg.
        read (callable): the transform that reads a map.
        count (int): of maps.
    """
    found = {}
    for index in _spread(len(dataset), count):
        info = dataset.get_data_info(index)
        if 'seg_map_path' not in info:
            raise _no_labels('gt_sem_seg')
        path = info['seg_map_path']
        try:
            label_map = read(info)['gt_seg_map']
        except (OSError, ValueError) as error:
            raise Refused(
                f'the label map {path} cannot be read ({error}): check '
                '--data-root, and data_prefix and seg_map_suffix of its '
                'dataset') from error
        for label in set(label_map.flatten().tolist()) - found.keys():
            found[label] = path
    return found


def _check_label_maps(cfg, loop, dataset, classes):
    """Check that each label in the maps is of a class, or ignored."""
    read = [
        t for t in dataset.pipeline.transforms if openmmlab.reads_label_maps(t)
    ]
    if not read or not classes:
        return
    found = _labels_in_maps(dataset, read[0])
    settings = ignored_labels(_sections(cfg, loop))
    if loop != 'train':  # no loss is computed
        metrics = {k: v for k, v in settings.items() if '_evaluator' in k}
        settings = metrics or settings
    ignored = [label for label in settings.values() if label is not None
               ] or [dataset.ignore_index]
    strange = sorted(label for label in found
                     if label >= classes and not all(label == value
                                                     for value in ignored))
    own = dataset.ignore_index
    if settings and own not in (IGNORED, *ignored):
        strange = sorted({*strange, own})
        found.setdefault(
            own, f'ignore_index={own} of the data set says that '
            'a label map')
    if strange:
        raise Refused(
            f'{found[strange[0]]} has the labels {strange[:5]}, and there are '
            f'{classes} classes: ' + _advice(cfg, strange, found, classes))
    _check_shift(dataset, read[0], classes)
    missing = [
        name for label, name in enumerate(dataset.metainfo['classes'])
        if label not in found
    ]
    log.info(
        f'{loop}: {len(_spread(len(dataset), LABEL_MAPS))} label maps have '
        f'the labels {sorted(found)}' +
        (f'; no pixel is of {first_few(missing)}' if missing else ''))


def _check_shift(dataset, read, classes):
    """Refuse labels that would all have a class if they began one further.

    What then has no class is ignored, so that no label is strange.
    """
    reduced, transform = dataset.reduce_zero_label, copy.copy(read)
    transform.reduce_zero_label = False

    def as_stored(info):
        return transform(dict(info, reduce_zero_label=False))

    begin = int(reduced)  # the number of the first class
    first, last = (0, classes - 1) if reduced else (1, classes)
    beside = classes if reduced else 0  # what right labels would have
    for count in LABEL_MAPS, MORE_LABEL_MAPS:
        found = _labels_in_maps(dataset, as_stored, count)
        if beside in found or not {*range(first, last + 1)} <= found.keys():
            return
    raise Refused(
        f'the label maps have the labels {first} to {last}, and none has '
        f'{beside}. With reduce_zero_label={reduced} the {classes} classes '
        f'are {begin} to {begin + classes - 1}, and '
        f'{0 if reduced else classes} is ignored: set '
        f'reduce_zero_label={not reduced} of every dataset')


def _advice(cfg, strange, found, classes):
    """What to set, for labels of no class that are not ignored."""
    if strange == [classes] and 0 not in found:
        return ('the labels begin with 1, set reduce_zero_label=True of every '
                'dataset')
    general = 'set metainfo.classes, or reduce_zero_label, of every dataset'
    if len(strange) > 1:
        return general
    [label] = strange
    names = [f'{loop}_evaluator' for loop in ('val', 'test')]
    sections = {name: cfg[name] for name in ('model', *names) if cfg.get(name)}
    options = ' '.join(f'{setting}={label}'
                       for setting in ignored_labels(sections))
    return (f'if {label} is to be ignored, set --cfg-options {options}; else '
            f'{general}')


def _spread(length, count):
    """At most so many indices, spread over all."""
    return range(0, length, -(-length // count) or 1)
