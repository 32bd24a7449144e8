"""A student that sees a part of each image, and a teacher that sees all."""
from math import prod

import torch

from mmfd.distillation import FeatureDistillation
from mmfd.errors import Refused, number, one_of
from mmfd.networks.some_patches import with_cls_tokens
from mmfd.networks.token_layout import Features
from mmfd.registry import MODELS, check_part
from mmfd.targets.losses import SumOfLosses

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
        leave_out (bool): leave hidden patches out of `mmfd.StudentViT`, which
            then `learns='seen'`.
        **distillation: arguments of `FeatureDistillation`.

    Raises:
        Refused: for other values; for a loss that tells cls tokens from
            patches, if it is of hidden patches alone; in a call, if no whole
            number of tokens is in such a patch.
    """

    def __init__(self,
                 hidden=0.6,
                 side=32,
                 learns='hidden',
                 leave_out=False,
                 **distillation):
        super().__init__(**distillation)
        number('model.hidden', hidden, 'a share of the patches, above 0 and '
               'below 1,', lambda share: 0 < share < 1)
        number('model.side', side, 'a whole number of pixels',
               lambda pixels: pixels > 0, int)
        one_of('model.learns', learns, LEARNT)
        check_part('model.normalize', self.normalize, 'statistics')
        if learns != 'all':
            check_part('model.neck', self.neck, 'selecting_neck')
        losses = [
            part for part in self.head.modules()
            if isinstance(part, SumOfLosses)
        ]
        if learns == 'hidden' and any(loss.parts_tokens() for loss in losses):
            raise Refused(
                "model.learns='hidden' leaves no cls token to the loss, and "
                'head.loss.terms tell cls tokens from patches: set learns to '
                "'seen' or 'all', or all terms to tokens='all'")
        network = type(self.backbone).__name__
        if leave_out and (learns, network) != ('seen', 'StudentViT'):
            raise Refused(
                f'model.leave_out=True with learns={learns!r} and a {network}'
                ": set model.learns='seen' and model.backbone.type to "
                'mmfd.StudentViT')
        self.hidden, self.side, self.learns = hidden, side, learns
        self.leave_out = leave_out

    def loss(self, pixels, data_samples=None):
        """The loss of a training batch, pixels (B, 3, H, W) RGB 0-255."""
        target = self.teacher(pixels)  # of all there is
        if self.leave_out:
            return self.loss_of_some(pixels, target)
        hidden = self.draw(pixels)
        feats = self.extract_feat(self.paint(pixels, hidden))
        pred = self.neck(feats)
        if self.learns == 'all' or pred.shape[1] != target.shape[1]:
            return self.head.loss(pred, target)  # it names what differs
        tokens = self.learnt(hidden, feats, pred.shape[1])[..., None]
        return self.head.loss(
            *(each.gather(1, tokens.expand(-1, -1, each.shape[-1]))
              for each in (pred, target)))

    def loss_of_some(self, pixels, target):
        """The loss of a batch of which the student has some patches alone."""
        grid = self.backbone.patch_resolution
        [patches] = self.patches_of(self.draw(pixels[:1]), grid, seen=True)
        tokens = self.backbone(self.normalize(pixels), patches)[0]
        cls = tokens.shape[1] - len(patches)
        pred = self.neck(Features((tokens, ), cls, (1, len(patches))))
        cls = pred.shape[1] - len(patches)
        if target.shape[1] != cls + prod(grid) or cls < 0:
            raise Refused(
                f'model.leave_out=True and a target of {target.shape[1]} '
                f'tokens: expected is one for each of {grid[0]} x {grid[1]} '
                "patches of the student: set neck.tokens to 'all' or 'map', "
                'neck.grid to None and teacher.neck.grid to the first')
        return self.head.loss(
            pred, target.index_select(1, with_cls_tokens(patches, cls)))

    def draw(self, pixels):
        """Which patches are hidden: (B, h, w), as many in each image."""
        h, w = (size // self.side for size in pixels.shape[-2:])
        if (h * self.side, w * self.side) != tuple(pixels.shape[-2:]):
            raise Refused(f'model.side={self.side} does not divide images of '
                          f'{" x ".join(map(str, pixels.shape[-2:]))} pixels')
        count = round(self.hidden * h * w)
        if count in (0, h * w):
            raise Refused(f'model.hidden={self.hidden} of {h} x {w} patches '
                          f'hides {count}: set a smaller model.side')
        order = torch.rand(len(pixels), h * w, device=pixels.device).argsort(1)
        return (order < count).view(-1, h, w)

    def paint(self, pixels, hidden):
        """Pixels with hidden patches in the mean colour."""
        hidden = _enlarged(hidden, pixels.shape[-2:])[:, None]
        return torch.where(hidden, self.normalize.mean, pixels)

    def learnt(self, hidden, feats, count):
        """Which of `count` tokens the loss is of: indices (B, n)."""
        select = self.neck.select_tokens
        grid = select.grid or feats.grid
        if select.tokens not in ('all', 'map') or not grid:
            raise Refused(f'model.learns={self.learns!r} needs a map of '
                          "tokens: set neck.tokens='map', or "
                          "model.learns='all'")
        cls, seen = count - prod(grid), self.learns == 'seen'
        patches = self.patches_of(hidden, grid, seen)
        return with_cls_tokens(patches, cls) if seen else patches + cls

    def patches_of(self, hidden, grid, seen):
        """Patches of a grid that are hidden, or seen: indices (B, n)."""
        cells = prod(hidden.shape[1:])
        if any(g % n for g, n in zip(grid, hidden.shape[1:])):
            patches, tokens = (' x '.join(map(str, each))
                               for each in (hidden.shape[1:], grid))
            raise Refused(f'model.side={self.side} makes {patches} patches, '
                          f'and the student has {tokens} tokens: set a '
                          'multiple of the pixels of its tokens')
        count = round(self.hidden * cells)
        if seen:
            count, hidden = cells - count, ~hidden
        # without counting what was drawn: a device would be waited for
        others = ~_enlarged(hidden, grid).flatten(1)
        order = others.to(torch.uint8).argsort(dim=1, stable=True)
        return order[:, :count * (prod(grid) // cells)]


def _enlarged(hidden, grid):
    """(B, h, w) -> (B, *grid), each patch in as many places."""
    for axis, size in enumerate(grid, 1):
        hidden = hidden.repeat_interleave(size // hidden.shape[axis], axis)
    return hidden
