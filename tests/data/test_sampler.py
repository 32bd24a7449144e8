"""Order and augmentation are functions of seed, epoch and image."""
import random

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from mmfd.data import sampler
from mmfd.data.image_folder import ImageFolder
from mmfd.data.sampler import ResumableSampler, SeededIndex, seed_all


def orders(monkeypatch, images, processes, epoch=0, start=0):
    """What each process yields."""
    monkeypatch.setattr(sampler, 'get_world_size', lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr(sampler, 'get_rank', lambda rank=rank: rank)
        order = ResumableSampler(range(images), seed=3)
        order.set_epoch(epoch)
        order.start = start
        yield [int(index) for index in order]


def test_each_image_comes_once_in_an_order_of_its_epoch(monkeypatch):
    [first] = orders(monkeypatch, 50, 1)
    [second] = orders(monkeypatch, 50, 1, epoch=1)
    assert sorted(first) == sorted(second) == [*range(50)]
    assert first != second and [first] == [*orders(monkeypatch, 50, 1)]


@pytest.mark.parametrize('processes', [2, 3, 4])
def test_batches_are_the_same_in_any_number_of_processes(
        monkeypatch, processes):
    """12 images an update of 50: a last batch of 2 is not shared by 3."""
    [alone] = orders(monkeypatch, 50, 1)
    shared = [*orders(monkeypatch, 50, processes)]
    assert len({len(part) for part in shared}) == 1  # none waits for another
    each = 12 // processes
    for update in range(50 // 12):
        batch = {
            index
            for part in shared
            for index in part[update * each:(update + 1) * each]
        }
        assert batch == {*alone[update * 12:(update + 1) * 12]}


def test_an_epoch_is_a_whole_number_of_updates(monkeypatch):
    monkeypatch.setattr(sampler, 'get_world_size', lambda: 2)
    order = ResumableSampler(range(50), seed=3)
    whole = [*order]
    order.update = 2 * 5  # batches of 5, two of them an update
    assert [*order] == whole[:20] and len(order) == 20


def test_epoch_goes_on_amid_it(monkeypatch):
    whole, rest = ([*orders(monkeypatch, 50, 2, start=start)]
                   for start in (0, 10))
    assert rest == [part[10:] for part in whole]


def test_what_is_drawn_depends_on_the_seed_alone():

    def drawn(*numbers):
        seed_all(*numbers)
        return random.random(), np.random.rand(), torch.rand(()).item()

    first = drawn(0, 1, 2)
    assert len({*first, *drawn(0, 1, 3), *drawn(0, 2, 1),
                *drawn(1, 0, 2)}) == 12
    assert drawn(0, 1, 2) == first


@pytest.fixture
def folder(shapes_root):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield ImageFolder(
            f'{shapes_root}/imagenet',
            'train', [
                dict(type='mmfd.LoadImage'),
                dict(
                    type='mmpretrain.RandomResizedCrop',
                    scale=16,
                    backend='pillow'),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs'),
            ],
            indices=24)


def batches(folder, workers, epoch=0, start=0):
    order = ResumableSampler(folder, seed=1)
    order.set_epoch(epoch)
    order.start = start
    loader = DataLoader(
        folder,
        batch_size=4,
        sampler=order,
        num_workers=workers,
        collate_fn=list)
    return [
        torch.stack([sample['inputs'] for sample in batch]) for batch in loader
    ]


def test_crops_are_the_same_in_any_number_of_workers(folder):
    alone, other = batches(folder, 0), batches(folder, 0, epoch=1)
    assert len(alone) == 6
    for workers in 1, 3:
        torch.testing.assert_close(batches(folder, workers), alone)
    torch.testing.assert_close(batches(folder, 2, start=8), alone[2:])
    assert (torch.cat(alone).sort(0)[0] != torch.cat(other).sort(0)[0]).any()
    assert (folder[0]['inputs'] != folder[0]['inputs']).any()  # not seeded
    torch.testing.assert_close(folder[SeededIndex(0, 5)]['inputs'],
                               folder[SeededIndex(0, 5)]['inputs'])
