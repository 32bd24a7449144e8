"""Check label maps, of which mmseg's data sets are made, before training.

Some of them are read, spread over the data set, as the data set reads them.
"""
import copy

import cv2
import numpy as np
from PIL import Image

from mmfd.errors import Refused
from mmfd.hosts import log, openmmlab
from mmfd.launch.checks.label_settings import (IGNORED, ignored_labels,
                                               no_labels, sections)
from mmfd.weights.weight_files import first_few

MAPS = 20
MORE_MAPS = 200  # where these leave a doubt


def check(cfg, loop, dataset):
    """Check that each label in the maps is of a class, or ignored.

    Args:
        cfg (dict): of the run.
        loop (str): `train`, `val` or `test`.
        dataset (Dataset): of mmseg.

    Raises:
        Refused: if a label has no class and is not ignored, if no map can be
            read, if one has colours or not the size of its image, or if a
            setting leaves out what seems to be a class.
    """
    names = dataset.metainfo.get('classes') or ()
    transforms = dataset.pipeline.transforms
    reads = [t for t in transforms if openmmlab.reads_label_maps(t)]
    if not reads or not names:
        return
    [read, *_], classes = reads, len(names)
    images = [t for t in transforms if openmmlab.reads_images(t)]
    maps = _maps(dataset, read, MAPS)
    if images:
        maps = _of_their_images(maps, images[0], loop)
    found = _labels(maps)
    settings = ignored_labels(sections(cfg, loop))
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
    if loop == 'train' and {*found} <= {IGNORED, *ignored}:
        _check_any(dataset, read, {IGNORED, *ignored})
    _check_shift(loop, dataset, read, names)
    if classes == 2 and {*found} == {0, IGNORED}:
        _check_white(dataset, read, names)
    missing = [name for label, name in enumerate(names) if label not in found]
    log.info(f'{loop}: {len(spread(len(dataset), MAPS))} label maps have '
             f'the labels {sorted(found)}' +
             (f'; no pixel is of {first_few(missing)}' if missing else ''))


def spread(length, count):
    """At most so many indices, spread over all."""
    return range(0, length, -(-length // count) or 1)


def _maps(dataset, read, count):
    """Some of a data set's label maps: what it says of the image, the map.

    Args:
        dataset (Dataset): of mmseg.
        read (callable): the transform that reads a map.
        count (int): of maps.

    Yields:
        tuple: dict, and integers (H, W).
    """
    for index in spread(len(dataset), count):
        info = dataset.get_data_info(index)
        if 'seg_map_path' not in info:
            raise no_labels('gt_sem_seg')
        path = info['seg_map_path']
        try:
            label_map = read(dict(info))['gt_seg_map']
        except (OSError, ValueError) as error:
            raise Refused(
                f'the label map {path} cannot be read ({error}): check '
                '--data-root, and data_prefix and seg_map_suffix of its '
                'dataset') from error
        if label_map.ndim != 2:
            raise Refused(
                f'{path} has {label_map.shape[-1]} numbers a pixel, as '
                'coloured pictures have; a label map has one, that of the '
                'class: write such maps, grey or of a palette')
        _check_numbers(path)
        yield info, label_map


def _check_numbers(path):
    """Refuse a map of labels above 255, of which mmseg keeps the last byte.

    As 26001 for the first object of class 26, which would be 145.
    """
    try:
        with Image.open(path) as image:
            if image.mode != 'F' and not image.mode.startswith('I'):
                return
            numbers = np.asarray(image)
    except (OSError, ValueError):  # of another kind, or not of this disk
        return
    wrong = numbers[(numbers < 0) | (numbers > IGNORED) | (numbers % 1 != 0)]
    if wrong.size:
        raise Refused(
            f'{path} has the label {wrong.flat[0]:g}, and mmseg reads whole '
            f'numbers from 0 to {IGNORED}: write the number of the class '
            'alone, without that of an object')


def _labels(maps):
    """Label -> path of a map that has it, in maps as of `_maps`."""
    found = {}
    for info, label_map in maps:
        for label in set(label_map.flatten().tolist()) - found.keys():
            found[label] = info['seg_map_path']
    return found


def _of_their_images(maps, read_image, loop):
    """Maps as of `_maps`, each of the size of its image.

    A map of another image, or of one that Exif turns, is refused. In training
    one of the same proportions is resized.
    """
    for info, label_map in maps:
        try:
            size = read_image(dict(info))['img'].shape[:2]
        except (OSError, AssertionError, cv2.error) as error:
            raise Refused(f'the image {info["img_path"]} cannot be read '
                          f'({error}): mend it, or take it out of the data '
                          'set') from error
        (h, w), (height, width) = label_map.shape, size
        alike = abs(h * width - w * height) <= max(size)
        if label_map.shape != size and not (alike and loop == 'train'):
            raise Refused(
                f'{info["seg_map_path"]} has {h} x {w} pixels, and its image '
                f'{info["img_path"]}, upright, {height} x {width}: give every '
                'image a label map of its size')
        yield info, label_map


def _check_shift(loop, dataset, read, names):
    """Refuse labels that would all have a class if they began one further.

    What then has no class is ignored, so that no label is strange. Where the
    maps leave it open, a line in the log says what is taken for what.
    """
    reduced, transform = dataset.reduce_zero_label, copy.copy(read)
    transform.reduce_zero_label = False
    classes, published = len(names), openmmlab.reduces_zero_label(dataset)
    begin = int(reduced)  # the number of the first class
    first, last = (0, classes - 1) if reduced else (1, classes)
    beside = classes if reduced else 0  # what right labels would have

    def stored(info):
        return transform(dict(info, reduce_zero_label=False))

    if published not in (None, reduced):
        log.info(f'{loop}: {type(dataset).__name__} as it is published has '
                 f'reduce_zero_label={published}, and {reduced} is set')
    for count in MAPS, MORE_MAPS:
        found = _labels(_maps(dataset, stored, count))
        if beside in found:
            return
        if not {*range(first, last + 1)} <= found.keys():
            break
    else:
        if published != reduced:
            raise Refused(
                f'the label maps have the labels {first} to {last}, and none '
                f'has {beside}. With reduce_zero_label={reduced} the '
                f'{classes} classes are {begin} to {begin + classes - 1}, and '
                f'{0 if reduced else classes} is ignored: set '
                f'reduce_zero_label={not reduced} of every dataset')
    if reduced and 0 in found:
        log.info(f'{loop}: reduce_zero_label=True ignores the label 0 of the '
                 f'files and takes 1 for {names[0]}. That no map has '
                 f'{classes} leaves it open: if 0 is {names[0]}, set '
                 'reduce_zero_label=False of every dataset')
    elif found and not reduced:
        log.info(f'{loop}: no map has the label 0, {names[0]}: if 1 is '
                 f'{names[0]}, set reduce_zero_label=True of every dataset')


def _check_white(dataset, read, names):
    """Refuse masks of black and white, whose white is ignored."""
    if {*_labels(_maps(dataset, read, MORE_MAPS))} == {0, IGNORED}:
        raise Refused(
            f'the label maps have 0 and {IGNORED} alone, and {IGNORED} is '
            f'ignored, so that nothing is {names[1]}: write 1 in the place of '
            f'{IGNORED}')


def _check_any(dataset, read, ignored):
    """Refuse maps of which every pixel is ignored."""
    found = {*_labels(_maps(dataset, read, MORE_MAPS))}
    if found and found <= ignored:
        raise Refused(
            f'every pixel of the label maps is ignored ({sorted(found)}, with '
            f'reduce_zero_label={dataset.reduce_zero_label}): check '
            'data_prefix.seg_map_path, and reduce_zero_label, of the dataset')


def _advice(cfg, strange, found, classes):
    """What to set, for labels of no class that are not ignored."""
    if strange == [classes] and 0 not in found:
        return ('the labels begin with 1, set reduce_zero_label=True of every '
                'dataset')
    general = 'set metainfo.classes, or reduce_zero_label, of every dataset'
    if len(strange) > 1:
        return general
    [label] = strange
    loops = [f'{loop}_evaluator' for loop in ('val', 'test')]
    parts = {name: cfg[name] for name in ('model', *loops) if cfg.get(name)}
    options = ' '.join(f'{setting}={label}'
                       for setting in ignored_labels(parts))
    return (f'if {label} is to be ignored, set --cfg-options {options}; else '
            f'{general}')
