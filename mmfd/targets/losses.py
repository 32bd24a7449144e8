"""What counts when a prediction is compared with a target.

Each is a module `loss(pred, target)` of tokens (B, L, C) that returns a
scalar, as `mmfd.DistillationHead` takes it. Those of PyTorch, such as FD's own
`torch.nn.SmoothL1Loss`, are named beside them. Where tokens meet each other,
`mean_of_tokens` is False.
"""
from math import inf

import torch
import torch.nn.functional as F
from torch import nn

from mmfd.errors import Refused, dict_with, number, one_of
from mmfd.hosts.pytorch import odd_names
from mmfd.registry import MODELS, build_part

VECTORS = dict(token=2, image=1)  # the first axis of (B, L, C) that is in one


@MODELS.register_module()
class CosineLoss(nn.Module):
    """One less the cosine of a token and its target, the mean of all tokens.

    Computed as half the squared distance of two tokens of length one, which
    keeps its digits where they are close. A token of zeros has no direction:
    predicted as zeros it costs nothing.

    Args:
        of (str): what has a direction: each `'token'`, or each `'image'`, all
            tokens of which are one vector, long ones most of it (Theia).

    Raises:
        Refused: for another.
    """

    def __init__(self, of='token'):
        super().__init__()
        one_of('head.loss.of', of, VECTORS)
        self.axis, self.mean_of_tokens = VECTORS[of], of == 'token'

    def forward(self, pred, target):
        """(B, L, C) each -> scalar, 0 to 2."""
        pred, target = (
            F.normalize(tokens.flatten(self.axis), dim=-1)
            for tokens in (pred, target))
        return (pred - target).square().sum(-1).mean() / 2


@MODELS.register_module()
class GramLoss(nn.Module):
    """Compare how alike the tokens of an image are to each other.

    The mean square of the difference between the cosines of all pairs of
    tokens, as in DINOv3 (arXiv 2508.10104, Gram anchoring). A rotation of all
    tokens changes nothing.

    Raises:
        Refused: in a call, for a single token.
    """
    mean_of_tokens = False

    def forward(self, pred, target):
        """(B, L, C) each -> scalar, 0 to 4."""
        _check_pairs(self, pred)
        return F.mse_loss(*map(_cosines, (pred, target)))


def _check_pairs(loss, tokens):
    """Refuse a single token, whose relation to itself is always the same."""
    if tokens.shape[1] < 2:
        raise Refused(
            f'mmfd.{type(loss).__name__} compares relations of tokens, and '
            f'there is {tokens.shape[1]}, so there is nothing to learn: set '
            "neck.tokens and teacher.neck.tokens, or tokens of the term, to "
            "'all'")


def _cosines(tokens):
    """Of all pairs of tokens of an image: (B, L, C) to (B, L, L)."""
    with torch.autocast(tokens.device.type, enabled=False):
        directions = F.normalize(tokens.float(), dim=-1)
        return directions @ directions.mT


@MODELS.register_module()
class RelationLoss(nn.Module):
    """Compare to which other tokens of an image each token relates.

    The relations of a token are the softmax of its products with all tokens,
    over the root of their width, for each group of channels. The loss is the
    KL divergence of the prediction's from the target's, the mean of all tokens
    and groups. It is that of TinyMIM (Ren et al., arXiv 2301.01296) for values
    of an attention, whose other half relates queries to keys.

    Args:
        heads (int): groups of channels.
        temperature (float): by which the products are divided too.

    Raises:
        Refused: for settings that are not above 0; in a call, for channels
            that are no multiple of `heads`, and for a single token.
    """
    mean_of_tokens = False

    def __init__(self, heads=1, temperature=1.):
        super().__init__()
        number('head.loss.heads', heads, 'a whole number above 0',
               lambda n: n > 0, int)
        number('head.loss.temperature', temperature, 'a number above 0',
               lambda t: 0 < t < inf)
        self.heads, self.temperature = heads, temperature

    def forward(self, pred, target):
        """(B, L, C) each -> scalar."""
        _check_pairs(self, pred)
        pred, target = map(self._log_relations, (pred, target))
        return (target.exp() * (target - pred)).sum(-1).mean()

    def _log_relations(self, tokens):
        """(B, L, C) -> (B, heads, L, L)."""
        width, rest = divmod(tokens.shape[-1], self.heads)
        if rest:
            raise Refused(f'head.loss.heads={self.heads} do not divide the '
                          f'{tokens.shape[-1]} channels of the teacher: set a '
                          'number that does')
        with torch.autocast(tokens.device.type, enabled=False):
            groups = tokens.float().unflatten(-1, (self.heads, width))
            groups = groups.transpose(1, 2)  # (B, heads, L, width)
            products = groups @ groups.mT / (width**.5 * self.temperature)
            return products.log_softmax(-1)


TOKENS = dict(  # which tokens (B, L, C) of which the first n are cls tokens
    all=lambda tokens, n: tokens,
    cls=lambda tokens, n: tokens[:, :n],
    patches=lambda tokens, n: tokens[:, n:])


@MODELS.register_module()
class SumOfLosses(nn.Module):
    """Add up several losses, each with a weight, of all tokens or of some.

    The loss of AM-RADIO (Ranzinger et al., arXiv 2312.06709), say::

        dict(type='mmfd.SumOfLosses', terms=dict(
            summary=dict(tokens='cls', loss=dict(type='mmfd.CosineLoss')),
            direction=dict(tokens='patches', weight=0.9,
                           loss=dict(type='mmfd.CosineLoss')),
            scale=dict(tokens='patches', weight=0.1,
                       loss=dict(type='torch.nn.SmoothL1Loss'))))

    Args:
        terms (dict): any name -> dict with `loss`, config of any loss;
            `weight`, 1 by default; `tokens`, `'all'` (by default), `'cls'` or
            `'patches'`.
        cls (int): how many tokens are cls tokens, the first.

    Raises:
        Refused: for other settings; for weights of which none is above 0; in
            a call, if there are no patches beside the cls tokens.
    """

    def __init__(self, terms, cls=1):
        super().__init__()
        self.cls = cls
        self.weights, self.chosen = {}, {}
        self.losses = nn.ModuleDict()
        place = 'head.loss.terms'
        if odd := odd_names(dict_with(place, terms)):
            raise Refused(f'{place}: {", ".join(map(repr, odd))} can be no '
                          'name of a part: take letters, digits and _, and '
                          'nothing that PyTorch has a use for, as keys')
        for name, term in terms.items():
            place = f'head.loss.terms.{name}'
            term = dict(dict_with(place, term))
            loss = term.pop('loss', None)
            self.weights[name] = number(f'{place}.weight',
                                        term.pop('weight',
                                                 1.), 'a number of 0 or more',
                                        lambda w: 0 <= w < 1e38)
            self.chosen[name] = one_of(f'{place}.tokens',
                                       term.pop('tokens', 'all'), TOKENS)
            if loss is None or term:
                raise Refused(f'{place}: loss, weight and tokens are expected,'
                              f' not {", ".join(term) or "no loss"}')
            self.losses[name] = build_part(f'{place}.loss', loss, 'loss')
        if not any(self.weights.values()):
            raise Refused('head.loss.terms: no term has a weight above 0, so '
                          'there is nothing to learn')

    def parts_tokens(self):
        """Whether cls tokens and patches count differently."""
        return {*self.chosen.values()} != {'all'}

    def forward(self, pred, target):
        """(B, L, C) each -> scalar."""
        if self.parts_tokens() and pred.shape[1] <= self.cls:
            raise Refused(
                f'head.loss.cls={self.cls} and there are {pred.shape[1]} '
                "tokens: neck.tokens='all' and teacher.neck.tokens='all' give "
                'cls tokens and patches')
        return sum(self.weights[name] *
                   loss(*(TOKENS[self.chosen[name]](tokens, self.cls)
                          for tokens in (pred, target)))
                   for name, loss in self.losses.items())


@MODELS.register_module()
class MaskedLoss(nn.Module):
    """Leave out the tokens that the teacher's neck has masked.

    Their targets are all zeros, as of no other token (`artifacts` of
    `mmfd.TargetNeck`). The loss of the others is a mean over them alone.

    Args:
        loss (dict): config of any loss that is a mean over tokens; within a
            `SumOfLosses`, one of these for each term.

    Raises:
        Refused: for the losses here that are none, and those of PyTorch with
            another reduction.
    """

    def __init__(self, loss):
        super().__init__()
        self.loss = build_part('mmfd.MaskedLoss.loss', loss, 'loss')
        for part in self.loss.modules():
            name = type(part).__name__
            if not getattr(part, 'mean_of_tokens', True):
                raise Refused(
                    'mmfd.MaskedLoss leaves tokens out of a mean over them, '
                    f'and mmfd.{name} as it is set is no such mean: set '
                    "teacher.neck.artifacts.action='clip', or take another "
                    'loss')
            if isinstance(part, SumOfLosses) and part.parts_tokens():
                raise Refused(
                    'mmfd.MaskedLoss of a mmfd.SumOfLosses that tells cls '
                    'tokens from patches would weigh them by the masked ones: '
                    'put the loss of each term with patches into a '
                    'mmfd.MaskedLoss')
            if vars(part).get('reduction', 'mean') != 'mean':
                raise Refused(
                    f'mmfd.MaskedLoss needs a mean over tokens; {name} has '
                    f"reduction={part.reduction!r}: set it to 'mean'")

    def forward(self, pred, target):
        """(B, L, C) each -> scalar; 0 if all tokens are masked."""
        counts = target.any(-1, keepdim=True)
        share = counts.float().mean().clamp(min=1 / counts.numel())
        return self.loss(pred.where(counts, target), target) / share
