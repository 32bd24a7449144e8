"""A class of another kind in a part of a model is one message."""
import copy

import pytest
import torch
from helpers.models import (IMAGENET, branch, clip_teacher, distillation,
                            downstream, pixels, several, student)
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer
from mmpretrain.structures import DataSample
from torch import nn

from mmfd.errors import Refused
from mmfd.registry import SLOTS, build_part, kind_of

CLASSIFIER_HEAD = dict(
    type='mmpretrain.LinearClsHead', num_classes=7, in_channels=48)
ONE_OF_A_KIND = {  # kind -> the config of one, of mmfd or of a host
    'a loss': dict(type='mmfd.CosineLoss'),
    'a neck': dict(
        type='mmfd.ProjectionNeck', in_channels=48, out_channels=128),
    'a head of a distillation': dict(
        type='mmfd.DistillationHead', loss=dict(type='mmfd.CosineLoss')),
    'a head': CLASSIFIER_HEAD,
    'a balance of losses': dict(type='mmfd.FixedWeights'),
    'a teacher': clip_teacher(layers=1),
    'statistics of pixels': IMAGENET,
    'a preprocessor': dict(type='mmfd.PixelPreprocessor'),
    'a backbone': dict(type='mmpretrain.ResNet', depth=18),
    'a model': dict(
        type='mmpretrain.ImageClassifier',
        backbone=downstream(),
        head=CLASSIFIER_HEAD),
    'a norm': dict(type='torch.nn.BatchNorm2d', num_features=3),
    'a layer': dict(type='torch.nn.Linear', in_features=48, out_features=48),
}
HEAD = dict(type='mmfd.DistillationHead')
TERMS = dict(a=dict(loss=dict(type='mmfd.CosineLoss')))
LAYERS = dict(type='mmfd.LayersNeck', necks=[ONE_OF_A_KIND['a neck']])
PROBE = dict(
    type='mmfd.LinearProbe', backbone=downstream(), head=CLASSIFIER_HEAD)
FD = distillation(clip_teacher(layers=1))
SEVERAL = several(
    **{n: branch(clip_teacher(layers=1))
       for n in ('clip', 'dino')})
MASKED = dict(FD, type='mmfd.MaskedFeatureDistillation', side=16)
PLACES = [  # a model, where in it a part is, which slot, and how it is called
    *((FD, [name], name, f'model.{name}')
      for name in ('teacher', 'normalize', 'backbone', 'neck', 'head',
                   'data_preprocessor')),
    (FD, ['teacher', 'backbone'], 'backbone', 'teacher.backbone'),
    (FD, ['teacher', 'neck'], 'target_neck', 'teacher.neck'),
    (FD, ['teacher', 'normalize'], 'statistics', 'teacher.normalize'),
    (FD, ['head', 'loss'], 'loss', 'head.loss'),
    (dict(
        FD, head=dict(HEAD, loss=dict(type='mmfd.SumOfLosses', terms=TERMS))),
     ['head', 'loss', 'terms', 'a', 'loss'], 'loss', 'head.loss.terms.a.loss'),
    (dict(FD, head=dict(HEAD, loss=dict(type='mmfd.MaskedLoss', loss=0))),
     ['head', 'loss', 'loss'], 'loss', 'mmfd.MaskedLoss.loss'),
    (dict(FD, neck=LAYERS), ['neck', 'necks',
                             0], 'neck', 'mmfd.LayersNeck.necks.0'),
    (MASKED, ['normalize'], 'statistics', 'model.normalize'),
    (MASKED, ['neck'], 'selecting_neck', 'model.neck'),
    (SEVERAL, ['balance'], 'balance', 'model.balance'),
    *((SEVERAL, ['branches', 'dino', name
                 ], name, f'model.branches.dino: {name}')
      for name in ('teacher', 'neck', 'head')),
    (PROBE, ['backbone'], 'backbone', 'model.backbone'),
    (PROBE, ['neck'], 'classifier_neck', 'model.neck'),
    (PROBE, ['head'], 'classifier_head', 'model.head'),
    (PROBE, ['data_preprocessor'], 'classifier_preprocessor',
     'model.data_preprocessor'),
]
NO_CONFIGS = (5, 'phi_s', True, {}, dict(a=1), dict(type=None), dict(type=5),
              [1], [], nn.SmoothL1Loss)


def with_part(model, path, part):
    model = copy.deepcopy(model)
    node = model
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = part
    return model


@pytest.mark.parametrize('model, path, slot, place', PLACES)
def test_every_other_kind_in_a_part_is_refused_by_its_place(
        model, path, slot, place):
    wrong = [kind for kind in ONE_OF_A_KIND if kind not in SLOTS[slot].kinds]
    assert len(wrong) >= 9
    for kind in wrong:
        config = with_part(model, path, copy.deepcopy(ONE_OF_A_KIND[kind]))
        with pytest.raises(Refused) as refusal:
            MODELS.build(config)
        message = str(refusal.value)
        assert message.startswith(f'{place}: ')
        assert f'and {SLOTS[slot].kinds[0]} is expected: set ' in message
        assert message.endswith(f'.type={SLOTS[slot].such_as}, say')


def test_every_class_is_of_the_kind_that_it_is_taken_for():
    for kind, config in ONE_OF_A_KIND.items():
        assert kind_of(MODELS.get(config['type'])) == kind


@pytest.mark.parametrize('slot', SLOTS)
def test_what_is_no_config_of_a_part_is_refused_by_its_place(slot):
    for wrong in NO_CONFIGS:
        with pytest.raises(
                Refused,
                match=r'^model\.part(\.0)?(\.type=| is )'
                '.* is expected'):
            build_part('model.part', wrong, slot)


# --- what a class is not said to be ---


class Mine(nn.Module):
    """Of a user: in which part it fits, its arguments and attributes say."""

    def forward(self, pred, target):
        return (pred - target).square().mean()


class MyViT(VisionTransformer):
    """Of a user: of the kind of what it is derived from."""


class MyViTAsANeck(VisionTransformer):
    """Of a user, who has written what it computes anew."""

    def forward(self, feats):
        return feats[-1]


def test_a_class_of_a_user_fits_where_it_can_be_called():
    assert kind_of(Mine) is None
    part = Mine()
    assert build_part('head.loss', dict(type=Mine), 'loss')
    assert build_part('head.loss', part, 'loss') is part
    with pytest.raises(
            Refused,
            match=r'Mine cannot be called as forward\(feat'
            r"s\) \(missing .*'target'\), and a neck is expected"):
        build_part('model.neck', dict(type=Mine), 'neck')
    with pytest.raises(Refused, match='Mine has no loss, and a head of a dis'):
        build_part('model.head', dict(type=Mine), 'head')
    with pytest.raises(Refused, match='Mine has no mean, std, and statistics'):
        build_part('teacher.normalize', dict(type=Mine), 'statistics')


def test_a_derived_class_is_what_the_file_is_in_that_says_what_it_computes():
    assert kind_of(MyViT) == kind_of(VisionTransformer) == 'a backbone'
    assert kind_of(MyViTAsANeck) is None


def test_a_list_of_parts_is_built_as_the_host_does():
    """One after the other."""
    layers = dict(type='mmpretrain.GlobalAveragePooling')
    assert len(build_part('model.neck', [layers, layers], 'neck')) == 2


# --- what a part gives ---

GIVEN = [  # changes to a distillation, and what is said when it is called
    (dict(neck=dict(type='mmpretrain.GlobalAveragePooling')),
     r'^neck gives a tuple, and tokens \(B, L, C\) are expected: set neck.typ'
     ),
    (dict(backbone=ONE_OF_A_KIND['a model']),
     r'^ImageClassifier gives a Tensor \(2, 7\), and a tuple of tokens'),
    (dict(
        neck=dict(
            LAYERS, necks=[dict(type='mmpretrain.GlobalAveragePooling')])),
     r'^mmfd.LayersNeck.necks.0 gives a tuple, and tokens'),
    (dict(head=dict(HEAD, loss=dict(type='torch.nn.CosineSimilarity'))),
     r'^head.loss gives a Tensor \(2, 128\), and a scalar is expected'),
]


@pytest.mark.parametrize('changes, message', GIVEN)
def test_what_a_part_gives_is_refused_if_it_is_of_another_kind(
        changes, message):
    model = MODELS.build(dict(FD, **copy.deepcopy(changes)))
    with pytest.raises(Refused, match=message):
        model.loss(pixels())


def test_images_that_a_preprocessor_leaves_in_a_list_are_refused():
    model = MODELS.build(
        dict(
            FD,
            data_preprocessor=dict(type='mmpretrain.SelfSupDataPreprocessor')))
    data = dict(
        inputs=[torch.zeros(2, 3, 32, 32)], data_samples=[DataSample()])
    with pytest.raises(
            Refused, match=r'preprocessor gives a list, and pixels'):
        model(**model.data_preprocessor(data), mode='loss')


def test_weights_are_drawn_as_the_host_draws_them():
    torch.manual_seed(1)
    model = MODELS.build(FD)
    torch.manual_seed(1)
    backbone = MODELS.build(student())
    drawn = dict(backbone.named_parameters())
    assert all(
        torch.equal(drawn[name], weight)
        for name, weight in model.backbone.named_parameters())
