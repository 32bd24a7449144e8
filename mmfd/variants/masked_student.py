"""A student that sees a part of each image, and a teacher that sees all."""
import torch

from mmfd.distillation import FeatureDistillation
from mmfd.errors import Refused
from mmfd.registry import MODELS

LEARNT = 'hidden', 'seen', 'all'


@MODELS.register_module()
class MaskedFeatureDistillation(FeatureDistillation):
    """FD of a student from which patches are hidden while it trains.

    As in MaskDistill (Peng et al., arXiv 2210.10615) and dBOT (Liu et al.,
    arXiv 2209.03917), for any student: a hidden patch is painted in the mean
    colour of the student's statistics, so that it is 0 once it is normalised,
    and the same number of patches is hidden in every image. Held-out images
    are seen whole.

    Args:
        hidden (float): share of the patches, above 0 and below 1.
        side (int): of these patches in pixels, a multiple of the student's.
        learns (str): the loss is that of the tokens of `'hidden'` patches, of
            `'seen'` ones, cls tokens among them, or of `'all'`.
        **distillation: arguments of `FeatureDistillation`.

    Raises:
        Refused: for other values; in a call, if no whole number of tokens is
            in such a patch.
    """

    def __init__(self, hidden=0.6, side=32, learns='hidden', **distillation):
        super().__init__(**distillation)
        if not 0 < hidden < 1:
            raise Refused(f'model.hidden={hidden}: a share of the patches, '
                          'above 0 and below 1, is expected')
        if learns not in LEARNT:
            raise Refused(f'model.learns={learns!r}: expected one of '
                          f'{", ".join(map(repr, LEARNT))}')
        self.hidden, self.side, self.learns = hidden, side, learns

    def loss(self, pixels, data_samples=None):
        """The loss of a training batch, pixels (B, 3, H, W) RGB 0-255."""
        target = self.teacher(pixels)  # of all there is
        hidden = self.draw(pixels)
        feats = self.extract_feat(self.paint(pixels, hidden))
        pred = self.neck(feats)
        if self.learns == 'all' or pred.shape[1] != target.shape[1]:
            return self.head.loss(pred, target)  # it names what differs
        tokens = self.tokens_of(hidden, feats, pred.shape[1])
        if self.learns == 'seen':
            tokens = ~tokens
        return self.head.loss(
            *(each[tokens].view(len(each), -1, each.shape[-1])
              for each in (pred, target)))

    def draw(self, pixels):
        """Which patches are hidden: (B, h, w), as many in each image."""
        h, w = (size // self.side for size in pixels.shape[-2:])
        if (h * self.side, w * self.side) != tuple(pixels.shape[-2:]):
            raise Refused(f'model.side={self.side} does not divide images of '
                          f'{" x ".join(map(str, pixels.shape[-2:]))} pixels')
        order = torch.rand(len(pixels), h * w, device=pixels.device).argsort(1)
        return (order < round(self.hidden * h * w)).view(-1, h, w)

    def paint(self, pixels, hidden):
        """Pixels with hidden patches in the mean colour."""
        hidden = _enlarged(hidden, pixels.shape[-2:])[:, None]
        return torch.where(hidden, self.normalize.mean, pixels)

    def tokens_of(self, hidden, feats, count):
        """Which of the tokens are of hidden patches: (B, count)."""
        grid = self.neck.select_tokens.grid or feats.grid
        if self.neck.select_tokens.tokens not in ('all', 'map') or not grid:
            raise Refused(f'model.learns={self.learns!r} needs a map of '
                          "tokens: set neck.tokens='map', or "
                          "model.learns='all'")
        if any(g % n for g, n in zip(grid, hidden.shape[1:])):
            patches, tokens = (' x '.join(map(str, each))
                               for each in (hidden.shape[1:], grid))
            raise Refused(f'model.side={self.side} makes {patches} patches, '
                          f'and the student has {tokens} tokens: set a '
                          'multiple of the pixels of its tokens')
        patches = _enlarged(hidden, grid).flatten(1)
        before = patches.new_zeros(len(patches), count - patches.shape[1])
        return torch.cat((before, patches), 1)


def _enlarged(hidden, grid):
    """(B, h, w) -> (B, *grid), each patch in as many places."""
    for axis, size in enumerate(grid, 1):
        hidden = hidden.repeat_interleave(size // hidden.shape[axis], axis)
    return hidden
