"""Labels, classes and batches are checked before training."""
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.commands import refused

from mmfd.errors import Refused
from mmfd.launch import dataset_checks


def test_head_of_another_number_of_classes_is_refused(project, unchanged):
    message = refused('train', project / 'finetune.py', '--work-dir',
                      project / 'run', '--cfg-options',
                      'model.backbone.init_cfg=None',
                      'model.head.num_classes=1000')
    assert 'have 10 classes, the model 1,000: set --cfg-options ' in message
    assert unchanged()


def test_heads_of_edges_may_have_one_class():
    data = SimpleNamespace(metainfo=dict(classes=('a', 'b', 'c')))
    model = dict(
        decode_head=dict(num_classes=3), auxiliary_head=[dict(num_classes=1)])
    dataset_checks.check_classes(model, data)
    model['auxiliary_head'][0]['num_classes'] = 2
    with pytest.raises(
            Refused,
            match=r'set --cfg-options '
            r'model\.auxiliary_head\.0\.num_classes=3$'):
        dataset_checks.check_classes(model, data)


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


def loader(dataset):

    class Loader(list):
        pass

    batches = Loader([0])
    batches.dataset = dataset
    return batches


def test_labels_and_their_maps_are_looked_at_in_advance():
    good = dict(seg_map_path='a.png', label=1)
    dataset_checks.check({}, loader(Maps([good, dict(good, label=255)])))
    with pytest.raises(
            Refused,
            match=r'b.png has the labels \[7\], and there are 2 classes'):
        dataset_checks.check(
            {}, loader(Maps([good, dict(seg_map_path='b.png', label=7)])))
    with pytest.raises(Refused, match='label map broken.png cannot be read'):
        dataset_checks.check({},
                             loader(
                                 Maps([dict(good,
                                            seg_map_path='broken.png')])))


def test_dataset_of_no_host_library_is_not_asked_for_classes():
    dataset_checks.check(dict(head=dict(num_classes=5)), loader([1, 2]))
