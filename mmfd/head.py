"""Where the two sides meet: the loss, and the checks that make it mean it."""
from math import isqrt

from mmengine.model import BaseModule

from mmfd.errors import Refused
from mmfd.registry import MODELS


@MODELS.register_module()
class DistillationHead(BaseModule):
    """Compare the student's tokens with the teacher's, all with equal weight.

    Args:
        loss (dict): config of any module `loss(pred, target)` that gives a
            scalar. FD's is `torch.nn.SmoothL1Loss` with beta 2.
    """

    def __init__(self, loss):
        super().__init__()
        self.criterion = MODELS.build(loss)

    def loss(self, pred, target):
        """The loss of `pred` against `target`, both (B, L, C), in fp32.

        Raises:
            Refused: if the two do not have the same tokens or channels.
        """
        (_, s, width), (_, t, channels) = pred.shape, target.shape
        if s != t:
            raise Refused(
                f'student gives {_seen(s)} tokens, teacher {_seen(t)}: set '
                f'{_cure(s, t)}')
        if width != channels:
            raise Refused(
                f'the projection gives {width} channels, the teacher has '
                f'{channels}: set neck.out_channels={channels}')
        return dict(loss=self.criterion(pred.float(), target))


def _layout(count):
    """How many tokens come before a square map, and the map's side."""
    side = isqrt(count)
    return count - side**2, side


def _seen(count):
    extra, side = _layout(count)
    if side < 2 or extra > 5:  # one vector, or a map that is not square
        return f'{count}'
    return f'{count} ({f"{extra} + " * (extra > 0)}{side} x {side})'


def _cure(student, teacher):
    """What to turn, for two numbers of tokens that differ."""
    if 1 in (student, teacher):
        return "neck.tokens and teacher.neck.tokens to the same, e.g. 'mean'"
    (left, s), (right, t) = _layout(student), _layout(teacher)
    if max(left, right) > 5:
        return ('neck.tokens and teacher.neck.tokens to the same, and neck.'
                "grid=(h, w) to that of the teacher's map")
    cures = []
    if left != right:
        cures += ["neck.tokens='map'"] * (left > 0)
        cures += ["teacher.neck.tokens='map'"] * (right > 0)
    if s != t:
        cures += [
            f'neck.grid={t} (or teacher.neck.grid={s}, or '
            f'teacher.img_size to where the teacher has {s} x {s})'
        ]
    return ' and '.join(cures)
