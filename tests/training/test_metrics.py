"""Held-out loss and nearest neighbours, by hand and by definition."""
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.models import distillation
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from mmpretrain.structures import DataSample

from mmfd.errors import Refused
from mmfd.registry import METRICS
from mmfd.training.metrics import NearestNeighbours, knn, leave_one_out_knn


def by_definition(features, labels, k, temperature):
    """One image after the other, in float64."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    predicted = []
    for i in range(len(unit)):
        cosine = [(unit[i] @ unit[j], j) for j in range(len(unit)) if j != i]
        votes = np.zeros(labels.max() + 1)
        for value, j in sorted(cosine, reverse=True)[:k]:
            votes[labels[j]] += np.exp(value / temperature)
        predicted.append(votes.argmax())
    return np.array(predicted)


@pytest.mark.parametrize('k, chunk', [(1, 1024), (5, 7), (20, 64), (99, 50)])
def test_votes_are_those_of_the_definition(k, chunk):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    features = rng.normal(size=(60, 8)) + 0.5 * np.eye(8)[labels]
    predicted = leave_one_out_knn(
        torch.tensor(features), torch.tensor(labels), k, 0.07, chunk)
    expected = by_definition(features, labels, k, 0.07)
    assert np.array_equal(predicted.numpy(), expected)
    assert 0 < (expected == labels).sum() < 60


def test_queries_beside_the_features_are_as_if_left_out_of_them():
    features, labels = torch.randn(30, 5), torch.arange(30) % 3
    for i in range(30):
        others = torch.arange(30) != i
        alone = knn(features[i:i + 1], features[others], labels[others], 7,
                    0.1)
        assert alone == leave_one_out_knn(features, labels, 7, 0.1)[i]


def evaluate(metric, samples):
    metric = METRICS.build(dict(type=f'mmfd.{metric}'))
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def sample(feature, label=None, skipped=(), loss=0.):
    known = {} if label is None else dict(gt_label=torch.tensor([label]))
    return dict(
        feature=torch.tensor(feature),
        skipped=skipped,
        loss=loss,
        error=loss,
        target=torch.tensor([feature]),
        criterion=F.mse_loss,
        **known)


def test_two_clusters_and_a_stray_give_their_share():
    near, far = [1., 0.1], [0.1, 1.]
    samples = [sample(near, 0)] * 3 + [sample(far, 1)] * 4 + [sample(far, 0)]
    metric = METRICS.build(dict(type='mmfd.NearestNeighbours', k=4))
    metric.process(None, samples)
    assert metric.evaluate(8) == {'knn/top1': 87.5}


def test_images_without_labels_have_no_knn():
    assert evaluate('NearestNeighbours', [sample([1.]), sample([2.])]) == {}


def test_hosts_data_sets_know_nothing_of_skipped_images():
    samples = [sample([1., 0.], 0, loss=1.), sample([0., 1.], 0, loss=3.)]
    for one in samples:
        del one['skipped']
    assert evaluate('NearestNeighbours', samples) == {'knn/top1': 100.}
    assert evaluate('HeldOutLoss', samples)['held_out/loss'] == 2


def test_a_feature_travels_without_its_batch():
    """Between processes results are pickled, a view with all its storage."""
    features = torch.randn(64, 32)
    metric = METRICS.build(dict(type='mmfd.NearestNeighbours'))
    metric.process(None, [
        dict(feature=feature, gt_label=torch.tensor([0]))
        for feature in features
    ])
    assert len(pickle.dumps(metric.results[0])) < 2 * features[0].nbytes + 1000


def test_replaced_images_count_in_neither_measure():
    """Else an image and its copy would be neighbours."""
    samples = [
        sample([1., 0.], 0, loss=0.1),
        sample([0., 1.], 1, loss=0.3),
        sample([0., 1.], 1, [('broken.jpg', 'it is empty')], loss=9.)
    ]
    assert evaluate('NearestNeighbours', samples) == {'knn/top1': 0.}
    assert evaluate('HeldOutLoss',
                    samples)['held_out/loss'] == pytest.approx(0.2)


def test_mean_of_held_out_losses_is_the_training_loss():
    model = MODELS.build(distillation()).eval()
    pixels = torch.randint(0, 256, (5, 3, 32, 32)).float()
    with torch.no_grad():
        samples = model(pixels, [DataSample() for _ in pixels], 'predict')
        expected = model.loss(pixels)['loss']
        features = model.extract_feat(pixels)[-1].mean(1)
    mean = torch.stack([sample.loss for sample in samples]).mean()
    torch.testing.assert_close(mean, expected)
    for sample in samples:
        torch.testing.assert_close(
            sample.criterion(sample.target, sample.target), torch.tensor(0.))
    torch.testing.assert_close(
        torch.stack([sample.feature for sample in samples]), features)
    assert isinstance(samples[0], BaseDataElement)


@pytest.mark.parametrize('wrong', [dict(k=0), dict(temperature=0)])
def test_vote_of_no_neighbour_is_refused(wrong):
    with pytest.raises(Refused, match='k of 1 or more, and a temperature'):
        NearestNeighbours(**wrong)
