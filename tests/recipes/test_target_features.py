"""A student speaks its teacher's features, from each file that has them."""
import json

import pytest
import torch
from helpers.commands import command, refused
from helpers.foreign import run_snippet
from helpers.models import build_random, clip_teacher, distillation, pixels
from safetensors.torch import load_file

import mmfd
from mmfd.errors import Refused
from mmfd.networks.token_layout import features_of
from mmfd.recipes.student import save_student
from mmfd.targets.normalizers import NORMALIZERS
from mmfd.targets.token_statistics import (TokenMoments, TokenStatistics,
                                           selection)
from mmfd.weights import checkpoints

OF_FILE = [name for name, kind in NORMALIZERS.items() if kind.of_file]


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    """Statistics of random tokens of 128 channels."""
    moments = TokenMoments()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2000, 128, generator=generator)
    mixing = torch.randn(128, 128, generator=generator)
    moments.add(tokens @ mixing / 128**.5 + 3)
    path = tmp_path_factory.mktemp('statistics') / 'tokens.safetensors'
    TokenStatistics(moments.mean, moments.covariance(), 2000, 10, 'random',
                    selection('all', None), '[32, 32]').save(path)
    return str(path)


def config(normalize, file, **changes):
    neck = dict(type='mmfd.TargetNeck', normalize=normalize)
    if normalize in OF_FILE:
        neck['statistics'] = file
    if normalize == 'running':
        neck['normalize'] = dict(type='running', channels=128)
    return distillation(clip_teacher(layers=1, neck=neck), **changes)


def saved(model, config, path):
    checkpoints.save(model.state_dict(), path,
                     dict(model=json.dumps(config, default=str)))
    return path


def trained(normalize, file, path):
    """A model and its checkpoint; its running statistics have seen images."""
    made = config(normalize, file)
    model = build_random(made)
    model.teacher.train()(pixels())
    model.eval()
    return model, saved(model, made, path)


@pytest.mark.parametrize('name', NORMALIZERS)
def test_features_are_the_inverse_of_the_prediction(name, file, tmp_path):
    model, path = trained(name, file, tmp_path / 'epoch_1.pth')
    student, images = mmfd.load_student(path), pixels()
    with torch.no_grad():
        pred = model.neck(model.extract_feat(images))
        found = student.target_features(images)
    normalize = model.teacher.neck.normalize
    expected = pred if normalize.lost else normalize.inverse(pred)
    assert torch.equal(found, expected)
    assert found.shape == (2, 17, 128) and found.dtype == torch.float32
    said = student.targets['teacher'].describe()
    assert ('is lost' in said) == (name in ('layer_norm', 'l2'))
    assert ("own features" in said) != ('is lost' in said)


@pytest.mark.parametrize('name', OF_FILE)
def test_a_student_that_predicts_its_target_speaks_as_its_teacher(
        name, file, tmp_path):
    """17 tokens of 48 channels and a bias: a projection meets any target."""
    made = config(name, file)
    model, image = build_random(made), pixels(1)
    with torch.no_grad():
        target = model.teacher(image)[0].double()
        feats = model.neck.select_tokens(model.extract_feat(image))[0].double()
        inputs = torch.cat((feats, torch.ones(17, 1).double()), 1)
        solution = torch.linalg.pinv(inputs) @ target  # (49, 128)
        model.neck.projection.weight.copy_(solution[:-1].T)
        model.neck.projection.bias.copy_(solution[-1])
        teacher = model.teacher
        tokens = features_of(teacher.backbone,
                             teacher.backbone(teacher.normalize(image)),
                             (32, 32))[-1]
        student = mmfd.load_student(saved(model, made, tmp_path / 'a.pth'))
        torch.testing.assert_close(
            student.target_features(image), tokens, rtol=1e-3, atol=2e-3)


def test_export_keeps_projections_on_demand(file, tmp_path):
    model, path = trained('phi_s', file, tmp_path / 'epoch_1.pth')
    bare, whole = (tmp_path / f'{x}.safetensors' for x in ('bare', 'whole'))
    command('export', path, bare)
    text = command('export', path, whole, '--with-projection')
    images = pixels()
    expected = mmfd.load_student(path).target_features(images)
    for student in mmfd.load_student(whole), run_snippet(
            text.split('load it by\n')[1]):
        assert torch.equal(student.target_features(images), expected)
    assert not [k for k in load_file(bare) if 'neck' in k]
    with pytest.raises(Refused, match='without the projection .*--with-proj'):
        mmfd.load_student(bare).target_features(images)
    assert 'is for --to backbone' in refused('export', path, tmp_path / 'hf',
                                             '--to', 'hf', '--with-projection')
    odd = dict(config('none', file), teacher=dict(neck=dict(type='mine')))
    saved(model, odd, tmp_path / 'odd.pth')
    assert 'has no projection' in refused('export', tmp_path / 'odd.pth',
                                          tmp_path / 'b.pth',
                                          '--with-projection')
    command('export', whole, tmp_path / 'again.pth', '--with-projection')
    again = mmfd.load_student(tmp_path / 'again.pth')
    assert torch.equal(again.target_features(images), expected)
    # what mmfd distill leaves is such a file
    ours = tmp_path / 'student.safetensors'
    save_student(path, json.loads(checkpoints.meta(path)['model']), (32, 32),
                 ours)
    written = [checkpoints.meta(each)['model'] for each in (ours, whole)]
    assert written[0] == written[1]
    assert {*load_file(ours)} == {*load_file(whole)}


def test_several_teachers_are_spoken_by_name(file, tmp_path):
    parts = {}
    for name, normalize in dict(clip='phi_s', dino='layer_norm').items():
        one = config(normalize, file)
        parts[name] = {key: one[key] for key in ('teacher', 'neck', 'head')}
    made = {
        key: one[key]
        for key in ('normalize', 'backbone', 'data_preprocessor')
    }
    made.update(type='mmfd.MultiTeacherDistillation', branches=parts)
    model = build_random(made)
    path = saved(model, made, tmp_path / 'epoch_1.pth')
    whole = tmp_path / 'whole.safetensors'
    text = command('export', path, whole, '--with-projection')
    assert "clip: 128 channels of the teacher's own features" in text
    assert 'dino: 128 channels: what LayerNorm leaves' in text
    images = pixels()
    with torch.no_grad():
        feats = model.extract_feat(images)
        pred = {k: b.neck(feats) for k, b in model.branches.items()}
        inverse = model.branches['clip'].teacher.neck.normalize.inverse
        for student in mmfd.load_student(path), mmfd.load_student(whole):
            clip = student.target_features(images, 'clip')
            dino = student.target_features(images, 'dino')
            assert torch.equal(clip, inverse(pred['clip']))
            assert torch.equal(dino, pred['dino'])
    for name in None, 'sam':
        with pytest.raises(Refused, match="one of 'clip', 'dino'"):
            student.target_features(images, name)


def test_what_a_distillation_leaves_speaks(student):
    """`mmfd distill` whitens: the direction alone."""
    found, out = student
    images = pixels(size=64)
    features = found.target_features(images)
    assert features.shape == (2, 4, 64)
    assert 'what LayerNorm leaves' in found.targets['teacher'].describe()
    for path in out / 'student.safetensors', out / 'epoch_2.pth':
        loaded = mmfd.load_student(path)
        assert torch.equal(loaded.target_features(images), features)


@pytest.mark.parametrize('change', [
    lambda model, weights: model['neck'].update(grid=10**9),
    lambda model, weights: model['neck'].update(grid={'a': 1}),
    lambda model, weights: model['neck'].update(tokens='many'),
    lambda model, weights: model['teacher']['neck'].update(normalize='zca'),
    lambda model, weights: model['teacher']['neck'].update(normalize=['a']),
    lambda model, weights: model['teacher']['neck'].update(normalize='x'),
    lambda model, weights: weights.update(
        {
            'teacher.neck.normalize.mean': torch.zeros(4),
            'teacher.neck.normalize.std': torch.ones(4)
        }),
    lambda model, weights: weights.pop('neck.projection.bias'),
])
def test_config_and_weights_that_do_not_belong_together_are_refused(
        change, file, tmp_path):
    made = config('standardize', file)
    weights = build_random(made).state_dict()
    change(made, weights)
    path = tmp_path / 'epoch_1.pth'
    checkpoints.save(weights, path, dict(model=json.dumps(made, default=str)))
    with pytest.raises(Refused):
        mmfd.load_student(path)
