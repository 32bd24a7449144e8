"""Rows of classes go where their names go, bit for bit."""
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmfd.errors import Refused
from mmfd.training.classes_by_name import ClassesByNameHook, carry, match

GIVEN = 'Person', 'Wild Bird', 'Moniter/TV', 'Car ', 'Lamp'
WANTED = 'car', 'bird', 'person', 'zebra'
SAME = dict(bird='Wild Bird')


class Detector(nn.Module):
    """Heads of mmdet's shapes for some classes."""

    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Linear(7, 6)
        self.fc_cls = nn.Linear(6, classes + 1)  # the background is last
        self.fc_reg = nn.Linear(6, 4 * classes)
        self.conv_logits = nn.Conv2d(6, classes, 1)


def run(given, wanted, hook, meta=True):
    """The weights that a model of the wanted classes is given."""
    source, model = Detector(len(given)), Detector(len(wanted))
    dataset = SimpleNamespace(metainfo=dict(classes=wanted))
    runner = SimpleNamespace(
        model=model, train_dataloader=SimpleNamespace(dataset=dataset))
    weights = {k: v.clone() for k, v in source.state_dict().items()}
    checkpoint = dict(
        state_dict=weights,
        meta=dict(dataset_meta=dict(classes=given)) if meta else {})
    hook.after_load_checkpoint(runner, checkpoint)
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    return source, model


def test_rows_are_those_of_the_same_name():
    source, model = run(GIVEN, WANTED, ClassesByNameHook(SAME))
    places = [3, 1, 0, None]  # of car, bird, person, zebra
    assert match(GIVEN, WANTED, SAME) == places
    assert torch.equal(model.backbone.weight, source.backbone.weight)
    for to, place in enumerate(places):
        for kind, rows in ('fc_cls', 1), ('fc_reg', 4), ('conv_logits', 1):
            for name in 'weight', 'bias':
                new = getattr(getattr(model, kind), name)
                old = getattr(getattr(source, kind), name)
                new = new[rows * to:rows * (to + 1)]
                if place is None:
                    assert not new.any()
                else:
                    assert torch.equal(new,
                                       old[rows * place:rows * (place + 1)])
    assert torch.equal(model.fc_cls.weight[-1], source.fc_cls.weight[-1])


def test_weights_that_fit_are_left_alone():
    hook = ClassesByNameHook()
    source, model = run(GIVEN, ('a', 'b', 'c', 'd', 'e'), hook)
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_other_sizes_than_those_of_classes_are_left_to_the_loader():
    value = dict(weight=torch.ones(9, 5))
    assert carry(value, dict(weight=torch.Size([4, 7])), 8, [0, 1, 2]) == {}
    assert carry(value, dict(weight=torch.Size([6, 5])), 8, [0, 1, 2]) == {}


def test_classes_of_objects365_hold_all_of_coco():
    from helpers.configs import load
    from mmdet.datasets import CocoDataset, Objects365V2Dataset
    [hook] = load('configs/coco/swinv2g_fd_htc.py').custom_hooks
    given, wanted = (
        data.METAINFO['classes']
        for data in (Objects365V2Dataset, CocoDataset))
    places = match(given, wanted, hook.same)
    assert len({*places}) == len(wanted) == 80 and None not in places
    assert [given[place]
            for place in places[:3]] == ['Person', 'Bicycle', 'Car']


@pytest.mark.parametrize('given, wanted, meta, message', [
    (GIVEN, ('cat', 'dog'), True, r"classes Person, .* images cat, dog, and "
     'no name is in both: give pairs of names in `same`'),
    (GIVEN, ('car', 'dog'), False, 'does not name its classes'),
])
def test_classes_that_map_to_nothing_are_refused(given, wanted, meta, message):
    with pytest.raises(Refused, match=message):
        run(given, wanted, ClassesByNameHook(), meta)
