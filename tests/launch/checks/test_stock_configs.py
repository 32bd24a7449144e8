"""Stock configs of the host libraries pass the checks, mistakes do not."""
import json

import pytest
import torch
from helpers import stock_configs
from helpers.commands import ROOT
from helpers.models import student
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.launch.checks import student_checks
from mmfd.launch.checks.dataset_checks import check_classes
from mmfd.launch.checks.label_settings import class_counts, ignored_labels
from mmfd.weights import checkpoints, provenance

FIRST = 4  # of each library, without --full
NAMES = [(library, name) for library in stock_configs.STOCK
         for name in stock_configs.names(library)]


def checked(library, name, metainfo=None, **options):
    """The numbers of classes in a stock config that passes all checks."""
    cfg = stock_configs.load(library, name)
    cfg.merge_from_dict(options)
    metainfo = metainfo or stock_configs.metainfo(library, cfg)
    check_classes(cfg, 'train', metainfo)
    check_classes(cfg, 'val', metainfo)
    student_checks.check(cfg)
    if not metainfo.get('classes'):
        return []
    return [c.value for c in class_counts(dict(model=cfg.model), metainfo)]


@pytest.mark.parametrize('library, name', [
    pytest.param(
        *case, marks=[] if i % 20 < FIRST else pytest.mark.full, id=case[1])
    for i, case in enumerate(NAMES)
])
def test_no_stock_config_is_refused(library, name):
    checked(library, name)


STDC = 'mmseg', 'stdc/stdc1_4xb12-80k_cityscapes-512x1024'
MASK2FORMER = 'mmdet', 'mask2former/mask2former_r50_8xb2-lsj-50e_coco'
PANOPTIC = 'mmdet', 'mask2former/mask2former_r101_8xb2-lsj-50e_coco-panoptic'
CASCADE = 'mmdet', 'cascade_rcnn/cascade-mask-rcnn_r101-caffe_fpn_1x_coco'
CIFAR = 'mmpretrain', 'resnet/resnet101_8xb16_cifar10'
ELEVEN = dict(classes=[f'class {i}' for i in range(11)])


def test_classes_are_counted_where_a_field_means_them():
    assert checked(*STDC) == [19, 19, 19]  # not the 2 of its edges
    assert checked(*MASK2FORMER)[0] == 80
    assert checked(*CIFAR) == [10]
    cfg = stock_configs.load(*STDC)
    assert ignored_labels(
        dict(model=cfg.model, val_evaluator=cfg.val_evaluator)) == {
            'model.decode_head.ignore_index': 255,
            'model.auxiliary_head.0.ignore_index': 255,
            'model.auxiliary_head.1.ignore_index': 255,
            'val_evaluator.ignore_index': 255
        }


@pytest.mark.parametrize('config, metainfo, options, advice', [
    (STDC, ELEVEN, {}, r'model\.decode_head\.num_classes=11 '
     r'model\.auxiliary_head\.0\.num_classes=11 '
     r'model\.auxiliary_head\.1\.num_classes=11$'),
    (STDC, None, {
        'model.decode_head.num_classes': 20
    }, r'model\.decode_head\.num_classes=19$'),
    (STDC, None, {
        'model.decode_head.loss_decode.class_weight': [1.] * 11
    }, r'model\.decode_head\.loss_decode\.class_weight'),
    (MASK2FORMER, ELEVEN, {}, r'model\.panoptic_head\.num_things_classes=11 '
     r'model\.panoptic_head\.num_stuff_classes=0'),
    (PANOPTIC, None, {
        'model.panoptic_head.num_stuff_classes': 52
    }, r'num_things_classes=80 model\.panoptic_head\.num_stuff_classes=53'),
    (CASCADE, ELEVEN, {}, r'model\.roi_head\.mask_head\.num_classes=11'),
    (CASCADE, None, {
        'model.roi_head.mask_head.num_classes': 1
    }, r'model\.roi_head\.mask_head\.num_classes=80$'),
    (CIFAR, ELEVEN, {}, r'model\.head\.num_classes=11$'),
    (CIFAR, None, {
        'val_evaluator': dict(type='SingleLabelMetric', num_classes=9)
    }, r'val_evaluator\.num_classes=10$'),
])  # yapf: disable
def test_wrong_number_of_classes_is_refused(config, metainfo, options, advice):
    with pytest.raises(Refused, match=advice):
        checked(*config, metainfo, **options)


# --- students in them ---

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.fixture(scope='module')
def distilled(tmp_path_factory):
    """A checkpoint of FD, which carries the config of its model."""
    path = tmp_path_factory.mktemp('student') / 'fd.pth'
    model = dict(
        normalize=dict(type='mmfd.Normalize', mean=MEAN, std=STD),
        backbone=student())
    weights = MODELS.build(student()).state_dict(prefix='backbone.')
    checkpoints.save(weights, path, dict(model=json.dumps(model)))
    return path


def with_student(library, name, file, **options):
    cfg = stock_configs.load(library, name)
    cfg.model.backbone = dict(
        type='mmfd.StudentViT',
        out_type='featmap',
        init_cfg=dict(
            type='Pretrained', checkpoint=str(file), prefix='backbone.'))
    cfg.merge_from_dict(options)
    student_checks.check(cfg)


@pytest.mark.parametrize('library, name, options, advice', [
    (*CASCADE, {},
     r'model\.data_preprocessor\.mean=\[123\.675,116\.28,103\.53\]'
     r' model\.data_preprocessor\.std=\[58\.395,57\.12,57\.375\]'
     r' model\.data_preprocessor\.bgr_to_rgb=True$'),
    (*MASK2FORMER, {
        'model.data_preprocessor.bgr_to_rgb': False
    }, r'cfg-options model\.data_preprocessor\.bgr_to_rgb=True$'),
    (*MASK2FORMER, {
        'model.data_preprocessor.rgb_to_bgr': True
    }, r'cfg-options model\.data_preprocessor\.rgb_to_bgr=False$'),
    ('mmdet', 'yolox/yolox_l_8xb8-300e_coco', {}, r'mean=\[123\.675'),
    ('mmpretrain', 'beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k', {},
     r'cfg-options data_preprocessor\.mean=\[123\.675'),
    ('mmseg', 'point_rend/pointrend_r101_4xb2-80k_cityscapes-512x1024', {},
     r"model\.pretrained='open-mmlab://resnet101_v1c' names weights of "
     r'another network than mmfd\.StudentViT: set model\.pretrained=None'),
])  # yapf: disable
def test_students_statistics_and_weights_are_its_own(distilled, library, name,
                                                     options, advice):
    with pytest.raises(Refused, match=advice):
        with_student(library, name, distilled, **options)


def test_model_without_statistics_has_not_those_beside_it(distilled):
    """The Runner gives it them only where the model's key is not there."""
    beside = {'data_preprocessor': dict(mean=MEAN, std=STD, bgr_to_rgb=True)}
    with pytest.raises(Refused, match=r'it mean=None, std=None, bgr_to_rgb=N'):
        with_student(*MASK2FORMER, distilled,
                     **{'model.data_preprocessor': None}, **beside)


def test_images_are_normalised_once(distilled):
    """As configs of mmseg 0.x did it, in the pipeline."""
    cfg = stock_configs.load(*STDC)
    for kind in 'Normalize', 'mmcv.Normalize', 'torchvision/Normalize':
        pipeline = [*cfg.val_dataloader.dataset.pipeline, dict(type=kind)]
        with pytest.raises(
                Refused,
                match=r'^val_dataloader\.dataset\.pipeline\.\d normalises '
                r'images, and model\.data_preprocessor does it again: take'):
            with_student(*STDC, distilled,
                         **{'val_dataloader.dataset.pipeline': pipeline})


@pytest.mark.parametrize('config, head', [(STDC, 'decode_head'),
                                          (CASCADE, 'rpn_head|roi_head')])
def test_heads_of_maps_are_refused_tokens(distilled, config, head):
    for out_type in 'raw', 'avg_featmap':
        with pytest.raises(
                Refused,
                match=rf'^model\.({head}) takes maps, .* gives out_type='
                rf"'{out_type}': set --cfg-options model\.backbone\.out_type"):
            with_student(*config, distilled,
                         **{'model.backbone.out_type': out_type})


def test_student_with_its_own_statistics_passes(distilled):
    with_student(*MASK2FORMER, distilled)
    with_student(*STDC, distilled)


def test_file_without_statistics_is_asked_for_colours_alone(tmp_path):
    path = tmp_path / 'old.pth'
    weights = MODELS.build(student()).state_dict(prefix='backbone.')
    checkpoints.save(weights, path, {})
    half = {'model.data_preprocessor.mean': [127.5] * 3}
    with_student(*MASK2FORMER, path, **half)
    with pytest.raises(Refused, match='bgr_to_rgb=True$'):
        with_student(*CASCADE, path)


@pytest.mark.parametrize(
    'kind, options',
    [
        ('openai-clip', None),
        ('mae', r'mean=\[123\.675,116\.28,103\.53\]'),
        ('hf-clip', None),  # of which some have other statistics
    ])
def test_converted_network_gets_the_statistics_of_its_kind(
        tmp_path, kind, options):
    path = tmp_path / 'converted.pth'
    meta = dict(kind=kind, **provenance.of_kind(kind))
    checkpoints.save(dict(w=torch.ones(1)), path, meta)
    cfg = Config.fromfile(f'{ROOT}/configs/classification/clip_vitb_in1k.py')
    cfg.model.backbone.init_cfg.checkpoint = str(path)
    if options is None:
        student_checks.check(cfg)
        return
    with pytest.raises(Refused, match=options):
        student_checks.check(cfg)


def test_backbone_of_random_weights_may_have_any_statistics():
    cfg = Config(
        dict(
            model=dict(
                backbone=dict(type='mmfd.StudentSwin'),
                data_preprocessor=dict(mean=[0.] * 3, std=[1.] * 3))))
    student_checks.check(cfg)
