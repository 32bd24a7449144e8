"""How much of the loss each of several teachers gets.

A student that knows nothing of an image predicts, at best, the mean of each
position. What this costs with a teacher, times the weight of its branch, is
how much that teacher counts in the sum.
"""
from mmengine.registry import MODELS

from mmfd.training.mean_baselines import MeanBaselines


class LossShares:
    """The losses of several teachers, batch by batch; none of a single one.

    Args:
        networks (list[Network]): those without a branch do not count.
    """

    def __init__(self, networks):
        teachers = [network for network in networks if network.is_teacher]
        self.teachers = teachers if len(teachers) > 1 else []
        self.criteria = {
            teacher.name: MODELS.build(teacher.branch['head']).criterion
            for teacher in self.teachers
        }
        self.targets = {name: MeanBaselines() for name in self.criteria}

    def add(self, name, targets):
        """Add the targets of a batch, (B, L, C), of a network by its name."""
        if name in self.targets:
            for target in targets:
                self.targets[name].add(target, self.criteria[name])

    def measure(self, images):
        """What was found; nothing for less than two images.

        Args:
            images (int): how many came.

        Returns:
            dict: name of a teacher -> dict of its `loss` if the mean of each
            position were predicted, the `weight` of its branch, and its
            `share` of the weighted sum, 0 to 1.
        """
        found = {}
        for teacher in self.teachers:
            means = self.targets[teacher.name].measure(images)
            if not means:
                return {}
            found[teacher.name] = dict(
                loss=means['loss_of_positions'],
                weight=teacher.branch.get('weight', 1.))
        total = sum(one['weight'] * one['loss'] for one in found.values())
        for one in found.values():
            one['share'] = one['weight'] * one['loss'] / max(total, 1e-30)
        return found
