"""Label maps with random oddities, and whether a config fits them."""
import random
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmfd.hosts import mmcv_ops

mmcv_ops.install()  # before mmseg is imported


class LabelSet(NamedTuple):
    """Label maps, a config for them, and the right answer.

    Attributes:
        classes (int): how many there are.
        labels (list[int]): those in the maps.
        dataset (dict): arguments of mmseg's data set.
        cfg (dict): with a model and an evaluator.
        advice (str): what a refusal has to name; None if all is right.
    """
    classes: int
    labels: list
    dataset: dict
    cfg: dict
    advice: str


KINDS = ('plain', 'edges', 'ignored', 'shift set', 'ignored nowhere',
         'ignored by data alone', 'ignored by one head', 'not by the metric',
         'shifted', 'beyond', 'head', 'one head', 'weights',
         'ignored but by a loss', 'shifted, the last one ignored',
         'reduced without need')


def random_labels(seed):
    """One of many label sets."""
    rng = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    classes = rng.randint(3, 15)
    labels = [*range(classes)]
    dataset, advice = {}, None
    head = dict(type='FCNHead', num_classes=classes)
    aux = dict(head)
    metric = dict(type='IoUMetric', iou_metrics=['mIoU'])
    if kind == 'edges':
        aux = dict(type='STDCHead', num_classes=2, boundary_threshold=0.1)
    ignoring = kind.startswith(('ignored', 'not')) or 'last one' in kind
    if ignoring:
        labels.append(classes)
        advice = f'decode_head.ignore_index={classes} '
    if ignoring and 'alone' not in kind and 'nowhere' not in kind:
        head['ignore_index'] = classes
        if kind != 'ignored by one head':
            aux['ignore_index'] = classes
        if kind != 'not by the metric':
            metric['ignore_index'] = classes
    if kind == 'ignored but by a loss':
        loss = rng.choice(['DiceLoss', 'mmseg.TverskyLoss'])
        head['loss_decode'] = [dict(type='CrossEntropyLoss'), dict(type=loss)]
        advice = f'decode_head.loss_decode.1.ignore_index={classes}'
    if kind == 'shifted, the last one ignored':
        labels.remove(0)
        advice = 'set reduce_zero_label=True of every dataset'
    if kind == 'reduced without need':
        dataset['reduce_zero_label'] = True
        advice = 'set reduce_zero_label=False of every dataset'
    if kind == 'ignored':
        advice = None
    if kind == 'ignored by data alone':
        dataset['ignore_index'] = classes
        labels.remove(classes)
    if kind in ('shifted', 'shift set'):
        labels = [label + 1 for label in labels]
        advice = 'the labels begin with 1, set reduce_zero_label=True'
    if kind == 'shift set':
        dataset['reduce_zero_label'], advice = True, None
    if kind == 'beyond':
        labels += [classes + 2, classes + 5]
        advice = 'set metainfo.classes, or reduce_zero_label'
    if kind in ('head', 'one head'):
        aux['num_classes'] += 1
        advice = f'auxiliary_head.0.num_classes={classes}'
    if kind == 'head':
        head['num_classes'] += 1
    if kind == 'weights':
        head['loss_decode'] = dict(
            type='CrossEntropyLoss', class_weight=[1.] * (classes + 2))
        advice = 'decode_head.loss_decode.class_weight'
    if rng.random() < 0.5 and not ignoring:
        labels.append(255)
    model = dict(decode_head=head, auxiliary_head=[aux])
    return LabelSet(classes, labels, dataset,
                    dict(model=model, val_evaluator=metric), advice)


def write(folder, labels):
    """Write three images and their maps, each of all labels in a row."""
    row = np.array(labels, np.uint8)[None].repeat(4, 0)
    for i in range(3):
        for name, array in (('images', np.stack([row] * 3,
                                                -1)), ('maps', row)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name / f'{i}.png')


def data_set(folder, classes, **kwargs):
    """mmseg's data set of such a folder."""
    kwargs.setdefault('data_prefix',
                      dict(img_path='images', seg_map_path='maps'))
    from mmseg.datasets import BaseSegDataset
    from mmseg.utils import register_all_modules
    register_all_modules(init_default_scope=True)
    return BaseSegDataset(
        data_root=str(folder),
        img_suffix='.png',
        seg_map_suffix='.png',
        metainfo=dict(
            classes=[f'class {i}' for i in range(classes)],
            palette=[[i] * 3 for i in range(classes)]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs')
        ],
        **kwargs)
