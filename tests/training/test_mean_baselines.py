"""Means of the target and their losses: by hand, and by definition."""
from multiprocessing import get_context

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from mmfd.registry import METRICS
from mmfd.training.mean_baselines import MeanBaselines

CRITERION = nn.SmoothL1Loss(beta=0.5)


def images(count, skipped=()):
    """Samples as the model gives them, of targets that differ by position."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 5, 3)  # (B, L, C)
    target = torch.randn(
        shape[1:], generator=generator) + torch.randn(
            shape, generator=generator)
    pred = target + 0.3 * torch.randn(shape, generator=generator)
    return [
        dict(
            loss=CRITERION(p, t),
            error=F.mse_loss(p, t),
            target=t,
            criterion=CRITERION,
            skipped=[('broken.jpg', 'it is empty')] * (i in skipped))
        for i, (p, t) in enumerate(zip(pred, target))
    ]


def evaluate(samples, batch=4, size=None, **kwargs):
    metric = METRICS.build(dict(type='mmfd.HeldOutLoss', **kwargs))
    for start in range(0, len(samples), batch):
        metric.process(None, samples[start:start + batch])
    return metric.evaluate(size or len(samples))


def test_two_images_by_hand():
    """Targets 0 and 2 and 4 and 6, predictions 1 off, squared errors."""
    samples = [
        dict(
            loss=1.,
            error=1.,
            target=torch.tensor(target),
            criterion=F.mse_loss) for target in ([[0.], [4.]], [[2.], [6.]])
    ]
    assert evaluate(samples) == {
        'held_out/loss': 1,
        'held_out/loss_of_mean': 5,  # 9 1 1 9
        'held_out/loss_of_positions': 1,
        'held_out/explained': 0.5  # variance 2, as of more images
    }


def test_losses_of_means_and_variance_are_those_of_the_definition():
    samples = images(20)
    target = torch.stack([sample['target'] for sample in samples])
    measured = evaluate(samples)
    constants = dict(mean=target.mean((0, 1)), positions=target.mean(0))
    for name, constant in constants.items():
        expected = CRITERION(constant.expand_as(target), target)
        assert measured[f'held_out/loss_of_{name}'] == pytest.approx(
            expected.item(), rel=1e-6)
    error = sum(sample['error'] for sample in samples) / 20
    assert measured['held_out/explained'] == pytest.approx(
        1 - (error / target.var(0).mean()).item(), rel=1e-6)


def test_whoever_predicts_the_mean_of_each_position_explains_nothing():
    samples = images(400)
    positions = torch.stack([s['target'] for s in samples[:200]]).mean(0)
    for sample in samples[200:]:
        sample['error'] = F.mse_loss(positions, sample['target'])
        sample['loss'] = CRITERION(positions, sample['target'])
    measured = evaluate(samples[200:], images=200)
    assert abs(measured['held_out/explained']) < 0.02
    assert measured['held_out/loss'] == pytest.approx(
        measured['held_out/loss_of_positions'], rel=0.02)
    assert measured['held_out/loss_of_mean'] > 1.3 * measured['held_out/loss']


def of_one_process(rank, processes, folder, answers):
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=processes)
    samples = images(11, skipped=[3, 8])
    own = (samples + samples[:-len(samples) % processes])[rank::processes]
    metric = METRICS.build(
        dict(
            type='mmfd.HeldOutLoss',
            images=4,
            collect_device='cpu',
            collect_dir=f'{folder}/collected'))
    metric.process(None, own)
    answers.put(metric.evaluate(11))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize('processes', [2, 3])
def test_processes_measure_what_one_does(tmp_path, processes):
    """Samplers repeat images where processes have not the same number."""
    fork = get_context('fork')
    answers = fork.Queue()
    workers = [
        fork.Process(
            target=of_one_process, args=(rank, processes, tmp_path, answers))
        for rank in range(processes)
    ]
    for worker in workers:
        worker.start()
    measured = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    expected = evaluate(images(11, skipped=[3, 8]), images=4)
    assert len(expected) == 4
    for one in measured:
        assert one == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('batch', [1, 7, 50])
def test_batches_of_any_size_measure_the_same(batch):
    assert evaluate(
        images(50), batch, images=8) == evaluate(
            images(50), images=8)


def test_few_targets_are_kept_and_they_are_evenly_spread():
    baselines = MeanBaselines(images=8)
    batch = torch.randn(1000, 2, 3)
    for target in batch:
        baselines.add(target, F.mse_loss)
        assert len(baselines.kept) <= 8
    assert [*baselines.kept] == [*range(0, 1000, 128)]
    assert all(kept.untyped_storage().nbytes() == kept.nbytes
               for kept in baselines.kept.values())
    assert torch.equal(baselines.kept[256], batch[256])


def test_one_image_has_no_baseline():
    assert evaluate(images(1)).keys() == {'held_out/loss'}
    assert evaluate(images(2, skipped=[0])).keys() == {'held_out/loss'}
    assert evaluate(images(2, skipped=[0, 1])) == {}
    equal = images(1) * 3  # nothing to explain
    assert 'held_out/explained' not in evaluate(equal)


def test_an_evaluation_forgets_the_one_before():
    metric = METRICS.build(dict(type='mmfd.HeldOutLoss'))
    measured = []
    for samples in images(9)[:4], images(9)[4:], images(9)[:4]:
        metric.process(None, samples)
        measured.append(metric.evaluate(len(samples)))
    assert measured[0] == measured[2] != measured[1]
