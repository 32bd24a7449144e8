"""How the losses of several teachers become one."""
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_reduce, is_distributed
from torch import Tensor, nn

from mmfd.errors import Refused, number
from mmfd.registry import MODELS


class Meeting(NamedTuple):
    """Prediction and target of one teacher, both (B, L, C)."""
    pred: Tensor
    target: Tensor
    branch: Any

    def loss(self):
        """Of the batch."""
        return self.branch.loss(self.pred, self.target)

    def losses(self):
        """Of each image: (B, )."""

        def of_image(pred, target):
            return self.branch.loss(pred[None], target[None])

        return torch.vmap(of_image)(self.pred, self.target)


@MODELS.register_module()
class FixedWeights(nn.Module):
    """Weigh each loss by the `weight` of its branch."""

    def forward(self, meetings, feats):
        """name -> `Meeting`, and features -> name -> its part of the loss."""
        return {
            name: meeting.branch.weight * meeting.loss()
            for name, meeting in meetings.items()
        }


@MODELS.register_module()
class BalancedGradients(nn.Module):
    """Let each teacher pull at the student's last features equally strongly.

    Each loss is scaled so that its gradient with respect to the features of
    the batch, of all processes, is as long as the mean of all teachers' is;
    the `weight` of a branch then is its share of the pull. It costs one more
    backward through each neck, none through the student.

    Raises:
        Refused: in a call, for features that have no gradient.
    """

    def forward(self, meetings, feats):
        """name -> `Meeting`, and features -> name -> its part of the loss."""
        if not feats[-1].requires_grad:
            raise Refused(
                'mmfd.BalancedGradients weighs gradients at the features of '
                'the student, which is frozen: let it learn, or set '
                'model.balance.type=mmfd.FixedWeights')
        losses = [meeting.loss() for meeting in meetings.values()]
        # a mean over so many numbers has a gradient that fp16 has no place for
        counts = [m.pred.numel() for m in meetings.values()]
        squares = torch.stack([
            torch.autograd.grad(
                loss * count, feats[-1],
                retain_graph=True)[0].float().div(count).square().sum()
            for loss, count in zip(losses, counts)
        ])
        if is_distributed():
            all_reduce(squares)
        lengths = squares.sqrt()
        scales = lengths.mean() / lengths.clamp(min=1e-20)
        weights = [meeting.branch.weight for meeting in meetings.values()]
        return {
            name: weight * scale * loss
            for name, weight, scale, loss in zip(meetings, weights, scales,
                                                 losses)
        }


@MODELS.register_module()
class TeacherDropping(nn.Module):
    """Leave teachers out at random, for each image, but not the worst one.

    As in UNIC (Sariyildiz et al., arXiv 2408.05088): of each image
    the teacher with the largest loss is kept, each other one is left out with
    probability `prob`. The loss is the mean over all pairs of image and
    teacher that are kept, by the weights of the branches.

    Args:
        prob (float): 0 to 1.

    Raises:
        Refused: for another probability.
    """

    def __init__(self, prob=0.5):
        super().__init__()
        self.prob = number('model.balance.prob', prob,
                           'a probability, 0 to 1,', lambda p: 0 <= p <= 1)

    def forward(self, meetings, feats):
        """name -> `Meeting`, and features -> name -> its part of the loss."""
        losses = torch.stack([m.losses() for m in meetings.values()])  # (T, B)
        weights = losses.new_tensor(
            [m.branch.weight for m in meetings.values()])[:, None]
        weighted = weights * losses
        kept = torch.rand_like(losses) >= self.prob
        kept.scatter_(0, weighted.detach().argmax(0, keepdim=True), True)
        parts = (weighted * kept).sum(1) / kept.sum()
        return dict(zip(meetings, parts))
