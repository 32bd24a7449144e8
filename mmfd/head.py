"""Where the two sides meet: the loss, and a check that tokens correspond."""
from math import isqrt

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule

from mmfd.errors import Refused, described
from mmfd.networks.token_layout import check_tokens
from mmfd.registry import MODELS, build_part


@MODELS.register_module()
class DistillationHead(BaseModule):
    """Compare the student's tokens with the teacher's; all count the same.

    Args:
        loss (dict): config of any module `loss(pred, target)` that returns a
            scalar. FD's is `torch.nn.SmoothL1Loss` with beta 2.
    """

    def __init__(self, loss):
        super().__init__()
        self.criterion = build_part('head.loss', loss, 'loss')

    def loss(self, pred, target):
        """The loss of `pred` against `target`, both (B, L, C), in fp32.

        Raises:
            Refused: if either is no tokens, if they differ in the number of
                tokens or channels, or the criterion gives no scalar.
        """
        check_tokens('neck', pred, 'mmfd.ProjectionNeck')
        check_tokens('teacher.neck', target, 'mmfd.WhiteningNeck')
        (_, s, width), (_, t, channels) = pred.shape, target.shape
        if s != t:
            raise Refused(f'student gives {_describe(s)} tokens, teacher '
                          f'{_describe(t)}: set {_advice(s, t)}')
        if width != channels:
            raise Refused(
                f'the projection gives {width} channels, the teacher has '
                f'{channels}: set neck.out_channels={channels}')
        loss = self.criterion(pred.float(), target)
        if not isinstance(loss, torch.Tensor) or loss.ndim:
            raise Refused(f'head.loss gives {described(loss)}, and a scalar '
                          "is expected: set head.loss.reduction='mean', or "
                          'another loss')
        return dict(loss=loss)

    def evaluate(self, pred, target):
        """Of each image what metrics need, both (B, L, C).

        Yields:
            dict: `loss`; `error`, mean square; `target` (L, C); and
            `criterion`, the loss of any other prediction.
        """
        for one, its_target in zip(pred.split(1), target.split(1)):
            yield dict(
                self.loss(one, its_target),
                error=F.mse_loss(one.float(), its_target),
                target=its_target[0],
                criterion=self.criterion)


MOST_BEFORE = 2  # tokens before a map: cls and distillation


def _layout(count):
    """How many tokens come before the largest square map, and its side.

    For the words of a message alone.
    """
    side = isqrt(count)
    return count - side**2, side


def _describe(count):
    """A number of tokens with their likely layout, as `197 (1 + 14 x 14)`."""
    extra, side = _layout(count)
    if side < 2 or extra > MOST_BEFORE:  # one vector, or no square map
        return f'{count}'
    return f'{count} ({f"{extra} + " * (extra > 0)}{side} x {side})'


def _advice(student, teacher):
    """What to set in the config, for two different numbers of tokens."""
    if 1 in (student, teacher):
        return "neck.tokens and teacher.neck.tokens to the same, e.g. 'mean'"
    (extra_s, s), (extra_t, t) = _layout(student), _layout(teacher)
    if max(extra_s, extra_t) > MOST_BEFORE:
        return ('neck.tokens and teacher.neck.tokens to the same, and neck.'
                "grid=(h, w) to that of the teacher's map")
    settings = []
    if extra_s != extra_t:
        settings += ["neck.tokens='map'"] * (extra_s > 0)
        settings += ["teacher.neck.tokens='map'"] * (extra_t > 0)
    if s != t:
        settings += [
            f'neck.grid={t} (or teacher.neck.grid={s}, or teacher.img_size to '
            f'a size at which the teacher has {s} x {s})'
        ]
    return ' and '.join(settings)
