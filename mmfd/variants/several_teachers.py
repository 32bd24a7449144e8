"""One student of several teachers::

    pixels (B, 3, H, W) RGB 0-255
      |-- student statistics --> backbone --+--> neck ---+
      |                                     |            head: loss --+
      |-- statistics of clip --> its teacher ------------+            |
      |                                     |                      balance
      |                                     '--> neck ---+            |
      |                                                  head: loss --+
      '-- statistics of dino --> its teacher ------------+

Each teacher has a branch of its own: its pixels in its own statistics and
size, a neck that takes the student's features to its width and grid, and a
head with its loss. The losses meet in one sum, whose weights `balance`
decides. With one branch the numbers are those of `FeatureDistillation`.
"""
from contextlib import contextmanager

from mmengine.model import BaseModule
from torch import nn

from mmfd.distillation import Distillation
from mmfd.errors import Refused, dict_with, number
from mmfd.hosts.pytorch import odd_names
from mmfd.registry import MODELS, build_part, place_of
from mmfd.variants.balance import Meeting
from mmfd.weights import provenance


class Branch(BaseModule):
    """What belongs to one teacher.

    Args:
        place (str): where its config is, for messages.
        teacher (dict): config of `mmfd.Teacher`.
        neck (dict): config of `mmfd.ProjectionNeck`.
        head (dict): config of `mmfd.DistillationHead`.
        weight (float): of its loss in the sum.
    """

    def __init__(self, place, teacher, neck, head, weight=1.):
        super().__init__()
        self.place = place
        for part, config in dict(
                teacher=teacher, neck=neck, head=head).items():
            dict_with(f'{place}.{part}', config, 'type')
        with self._named():
            self.teacher = build_part('teacher', teacher, 'teacher')
            self.neck = build_part('neck', neck, 'neck')
            self.head = build_part('head', head, 'head')
        self.weight = weight

    @contextmanager
    def _named(self):
        """Let messages of its parts say whose they are."""
        try:
            yield
        except Refused as error:
            raise Refused(f'{self.place}: {error}') from error

    def target(self, pixels):
        """Pixels (B, 3, H, W) RGB 0-255 -> (B, L, C) of the teacher."""
        with self._named():
            return self.teacher(pixels)

    def predict(self, feats):
        """Features of the student -> (B, L, C)."""
        with self._named():
            return self.neck(feats)

    def evaluate(self, pixels, feats):
        """Of each image what metrics need, as of `DistillationHead`."""
        pred, target = self.predict(feats), self.target(pixels)
        with self._named():
            yield from self.head.evaluate(pred, target)

    def loss(self, pred, target):
        """Of prediction and target, both (B, L, C)."""
        with self._named():
            return self.head.loss(pred, target)['loss']


@MODELS.register_module()
class MultiTeacherDistillation(Distillation):
    """Teach `backbone` the targets of several teachers at once.

    Args:
        branches (dict): name -> arguments of `Branch`.
        balance (dict): config of what weighs their losses:
            `mmfd.FixedWeights`, `mmfd.BalancedGradients` or
            `mmfd.TeacherDropping`.
        **student: `normalize`, `backbone` and `data_preprocessor`, as of
            `FeatureDistillation`.

    Raises:
        Refused: without a branch; for one that lacks a part; for names that
            are no keys of a module; for weights of which none is above 0.
    """

    def __init__(self, branches, balance=None, **student):
        _check(branches)
        super().__init__(**student)
        self.branches = nn.ModuleDict({
            name: Branch(place_of(name), **parts)
            for name, parts in branches.items()
        })
        self.balance = build_part('model.balance', balance
                                  or dict(type='mmfd.FixedWeights'), 'balance')

    def loss(self, pixels, data_samples=None):
        """The losses of a training batch, pixels (B, 3, H, W) RGB 0-255."""
        branches = self.branches.items()
        targets = {name: b.target(pixels) for name, b in branches}
        feats = self.extract_feat(pixels)
        meetings = {
            name: Meeting(branch.predict(feats), targets[name], branch)
            for name, branch in branches
        }
        losses = dict_with('what model.balance gives',
                           self.balance(meetings, feats))
        return {f'loss_{name}': loss for name, loss in losses.items()}

    def evaluated(self, pixels, feats):
        """Of each image: `loss`, the sum, and `branches`, name -> its part."""
        parts = [
            branch.evaluate(pixels, feats)
            for branch in self.branches.values()
        ]
        weights = [branch.weight for branch in self.branches.values()]
        for found in zip(*parts):
            yield dict(
                loss=sum(w * part['loss'] for w, part in zip(weights, found)),
                branches=dict(zip(self.branches, found)))


def _check(branches):
    if not dict_with('model.branches', branches or {}):
        raise Refused('model.branches is empty: a branch for each teacher is '
                      'expected')
    odd = odd_names(branches) + [
        n for n in provenance.PARENTS if n in branches
    ]
    if odd:
        raise Refused(f'model.branches: {", ".join(map(repr, odd))} can be no '
                      'name in a checkpoint: take letters, digits and _, not '
                      f'{" or ".join(provenance.PARENTS)}, and nothing that '
                      'PyTorch has a use for, as keys; clip_keys is one')
    for name, branch in branches.items():
        dict_with(place_of(name), branch, 'teacher', 'neck', 'head')
    weights = [
        number(f'{place_of(name)}.weight', branch.get('weight', 1.),
               'a number of 0 or more', lambda weight: 0 <= weight < 1e38)
        for name, branch in branches.items()
    ]
    if not any(weights):
        raise Refused('model.branches: all weights are 0, so there is nothing '
                      'to learn: one above 0 is expected')
