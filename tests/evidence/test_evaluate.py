"""Scores are those of the network that is named."""
import json

import pytest
import torch
from helpers.images import noise
from mmengine.registry import MODELS

from mmfd.weights import checkpoints


@pytest.fixture
def evaluate(monkeypatch):
    monkeypatch.syspath_prepend('evidence')
    import evaluate
    return evaluate


def write_images(root, split, classes, count):
    """ROOT/SPLIT/CLASS/NUMBER.png, of 32 pixels; returns the root."""
    for i, name in enumerate(classes):
        folder = root / split / name
        folder.mkdir(parents=True)
        for j in range(count):
            noise((32, 32), seed=count * i + j).save(folder / f'{j}.png')
    return root


@pytest.fixture
def teacher(evaluate, tmp_path):
    """The file of a random teacher, with towers beside it."""
    cfg = evaluate.read('configs/small/absolute_fd_small.py', {}, tmp_path)
    path = tmp_path / 'captions.pth'
    backbone = MODELS.build(cfg.model.backbone)
    checkpoints.save(backbone.state_dict(), path, {})
    towers = evaluate.captions.Towers(128)
    checkpoints.save(towers.state_dict(), tmp_path / 'captions_towers.pth', {})
    return path


def speaking(evaluate, teacher, normalize, noise=0.):
    """Config and checkpoint of a student that predicts its target."""
    options = {
        'model.teacher.checkpoint': teacher,
        'model.teacher.neck.type': 'mmfd.TargetNeck',
        'model.teacher.neck.normalize': normalize
    }
    data = write_images(teacher.parent / 'images', 'val', 'abcdefghij', 4)
    cfg = evaluate.read('configs/small/absolute_fd_small.py', options, data)
    model = MODELS.build(cfg.model)
    model.backbone.load_state_dict(model.teacher.backbone.state_dict())
    with torch.no_grad():
        projection = model.neck.projection
        projection.weight.copy_(torch.eye(128))
        projection.weight.add_(noise * torch.randn(128, 128))
        projection.bias.zero_()
    path = teacher.with_name('epoch_1.pth')
    checkpoints.save(model.state_dict(), path,
                     dict(model=json.dumps(cfg.model, default=str)))
    return cfg, path


@pytest.mark.parametrize('normalize', ['none', 'l2', 'layer_norm'])
def test_student_that_has_its_teachers_features_says_the_same(
        evaluate, teacher, normalize):
    """Tokens behind a final norm at its start are normalised already."""
    said = evaluate.in_words(*speaking(evaluate, teacher, normalize))
    assert (said['same'], said['cosines']) == (100, 0)
    hits = evaluate.unpack(said['values'])
    assert len(hits) == 40 and said['score'] == 100 * hits.mean()
    assert said['score'] == said['teacher_score']


def test_student_with_other_features_does_not(evaluate, teacher):
    said = evaluate.in_words(*speaking(evaluate, teacher, 'none', noise=1.))
    assert said['same'] < 100 and said['cosines'] > 0.05


def test_statistics_are_those_of_the_training_images(evaluate, teacher):
    data = write_images(teacher.parent / 'data', 'train', 'ab', 12)
    evaluate.save_statistics(teacher, data)
    meta = checkpoints.meta(teacher.with_name('captions_tokens.safetensors'))
    assert (meta['images'], meta['tokens']) == ('24', str(24 * 17))
