"""How a teacher's tokens are normalised before a student learns them.

A normaliser takes tokens (B, L, C) in fp32 and returns as many. Where it has
an inverse, a student's prediction becomes features of the teacher again.

- `layer_norm`, FD's: each token by its own mean and variance. Only the
  direction comes back.
- `l2`: each token to length one. Only the direction comes back.
- `none`: nothing is done. It has an inverse, as all that follow.
- `standardize`: each channel to mean 0 and variance 1, by a statistics file.
- `running`: the same, by what was seen since the run began; it needs
  `channels`.
- `phi_s`: a rotation and one scale, so that all channels have variance 1, by a
  statistics file.
- `pca`, `zca`: channels are decorrelated and have variance 1, by a statistics
  file.

`mmfd statistics` makes the file. Cls tokens and patches are normalised
together; where they differ much, a teacher's `tokens='map'` leaves out the
first.
"""
import os
from math import inf

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_world_size
from torch import nn

from mmfd.errors import Refused, number, one_of
from mmfd.targets import token_statistics
from mmfd.targets.equal_variance import equalizer


class Normalizer(nn.Module):
    """What all normalisers have: `forward` and `inverse`, (B, L, C) each.

    Attributes:
        of_file (bool): whether it is made of a statistics file.
        steady (bool): whether the same tokens give the same target always.
        lost (str): what of a token no inverse brings back; '' if nothing.
        teacher (str): fingerprint of the teacher whose statistics it has;
            None if it has none.
    """
    of_file, steady, lost, teacher = False, True, '', None

    def inverse(self, target):
        """The teacher's own tokens of a target, or of its prediction.

        Raises:
            Refused: if there is no inverse.
        """
        raise Refused(
            f'{type(self).__name__} keeps the direction of a token alone and '
            f'no inverse brings back {self.lost}: distil with another '
            'teacher.neck.normalize, such as phi_s, for the features '
            'themselves')


def _check_width(tokens, mean):
    if tokens.shape[-1] != len(mean):
        raise Refused(
            f'the teacher has {tokens.shape[-1]} channels, and '
            f'teacher.neck.normalize is of {len(mean)}: give the statistics '
            'file, or the number of channels, of this teacher')


def _above_0(eps):
    return number('teacher.neck.normalize.eps', eps, 'a number above 0',
                  lambda value: 0 < value < inf)


class LayerNorm(Normalizer):
    """FD's whitening (sec. 3.2): a LayerNorm over channels without weights.

    Each token gets zero mean and unit variance. Channels are not decorrelated.
    """
    lost = 'the mean and the variance that it had'

    def __init__(self, eps=1e-5):
        super().__init__()
        self.eps = _above_0(eps)

    def forward(self, tokens):
        return F.layer_norm(tokens, tokens.shape[-1:], eps=self.eps)


class L2(Normalizer):
    """Scale each token to length one.

    The mean square of a channel is then 1 / C, so small that smooth-L1 is
    quadratic.
    """
    lost = 'the length that it had'

    def forward(self, tokens):
        return F.normalize(tokens, dim=-1)


class Unchanged(Normalizer):
    """Tokens as they are."""

    def forward(self, tokens):
        return tokens

    def inverse(self, target):
        return target


class Standardize(Normalizer):
    """Each channel to zero mean and unit variance over all tokens.

    The fixed standardisation of Theia (arXiv 2407.20179).

    Args:
        channels (int): the teacher's width.
    """
    of_file = True

    def __init__(self, channels):
        super().__init__()
        self.register_buffer('mean', torch.zeros(channels))
        self.register_buffer('std', torch.ones(channels))

    @classmethod
    def of(cls, statistics, eps=1e-6):
        """With the numbers of `TokenStatistics`; `eps` is the least std."""
        self = cls(len(statistics.mean))
        self.mean.copy_(statistics.mean)
        deviations = statistics.covariance.diagonal().sqrt()
        self.std.copy_(deviations.clamp(min=_above_0(eps)))
        return self

    def forward(self, tokens):
        _check_width(tokens, self.mean)
        return (tokens - self.mean.float()) / self.std.float()

    def inverse(self, target):
        return target * self.std.float() + self.mean.float()


class RunningStandardize(Standardize):
    """Standardise by the tokens of all processes since the run began.

    While the model trains, statistics take in a batch before it is
    normalised, without tokens that are NaN. They are saved with the run.

    Args:
        channels (int): the teacher's width.
        momentum (float): weight of a batch in an exponential average of means
            and standard deviations, which begins with those of the first
            batch, as in UNIC and DUNE. None takes the exact mean and standard
            deviation of all tokens.
        eps (float): the least standard deviation.

    Raises:
        Refused: for other settings; while it trains with a momentum, for a
            batch of one token.
    """
    of_file, steady = False, False

    def __init__(self, channels=None, momentum=None, eps=1e-6):
        if channels is None:
            raise Refused(
                "teacher.neck.normalize='running' needs the teacher's width: "
                "normalize=dict(type='running', channels=768), say")
        place = 'teacher.neck.normalize'
        number(f'{place}.channels', channels, "the teacher's width",
               lambda width: width > 0, int)
        if momentum is not None:
            number(
                f'{place}.momentum', momentum, 'a number above 0 and at '
                'most 1, or None for the mean of all,',
                lambda weight: 0 < weight <= 1)
        super().__init__(channels)
        self.double()  # a float32 would lose what each batch adds
        self.register_buffer('count', torch.zeros((), dtype=torch.int64))
        self.momentum, self.eps = momentum, _above_0(eps)

    def forward(self, tokens):
        if self.training:
            self._update(tokens)
        return super().forward(tokens)

    @torch.no_grad()
    def _update(self, tokens):
        _check_width(tokens, self.mean)
        if self.momentum and tokens[..., 0].numel() * get_world_size() < 2:
            raise Refused(
                'a batch of one token has no standard deviation, which '
                'teacher.neck.normalize.momentum would average: set it to '
                'None, or train_dataloader.batch_size to 2 or more')
        batch = _united(all_gather(_moments(tokens.flatten(0, -2).double())))
        seen, weight = self.count + batch[0, 0].long(), 1.
        if self.momentum is None:
            past = self.count.double().expand_as(self.mean)
            scatter = self.std.square() * (past - 1).clamp(min=0)
            batch = _united([torch.stack((past, self.mean, scatter)), batch])
        else:  # the first batch as it is
            weight = torch.where(self.count > 0,
                                 self.mean.new_tensor(self.momentum), 1.)
        count, mean, scatter = batch
        std = (scatter / (count - 1).clamp(min=1)).sqrt().clamp(min=self.eps)
        self.mean.lerp_(mean, weight)
        self.std.lerp_(std, weight)
        self.count.copy_(seen)


def _moments(flat):
    """Count, mean and sum of squared distances from it: (N, C) to (3, C).

    Tokens that are NaN do not count.
    """
    seen = ~flat.isnan().any(-1, keepdim=True)
    count = seen.sum(0).to(flat.dtype).expand(flat.shape[-1])
    mean = flat.where(seen, 0.).sum(0) / count.clamp(min=1)
    scatter = (flat - mean).where(seen, 0.).square().sum(0)
    return torch.stack((count, mean, scatter))


def _united(parts):
    """`_moments` of several sets of tokens together (Chan et al., 1983)."""
    counts, means, scatters = torch.stack(parts).unbind(1)  # each (P, C)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count.clamp(min=1)
    scatter = (scatters + counts * (means - mean).square()).sum(0)
    return torch.stack((count, mean, scatter))


class AffineNormalizer(Normalizer):
    """Subtract the mean of all tokens, then multiply by one matrix (C, C).

    In fp32 under autocast too.

    Args:
        channels (int): the teacher's width.
    """
    of_file = True

    def __init__(self, channels):
        super().__init__()
        self.register_buffer('mean', torch.zeros(channels))
        self.register_buffer('matrix', torch.eye(channels))
        self.register_buffer('inverse_matrix', torch.eye(channels))

    @classmethod
    def of(cls, statistics, **settings):
        """With the matrix that follows from `TokenStatistics`."""
        self = cls(len(statistics.mean))
        values, vectors = torch.linalg.eigh(statistics.covariance)
        matrix, inverse = self.matrices(
            values.clamp(min=0), vectors, **settings)
        self.mean.copy_(statistics.mean)
        self.matrix.copy_(matrix)
        self.inverse_matrix.copy_(inverse)
        return self

    @staticmethod
    def matrices(values, vectors):
        """The matrix and its inverse, both (C, C) in fp64.

        Args:
            values (Tensor): (C, ) eigenvalues of the covariance, ascending.
            vectors (Tensor): (C, C), its eigenvectors, a column each.
        """
        raise NotImplementedError

    def forward(self, tokens):
        _check_width(tokens, self.mean)
        with torch.autocast(tokens.device.type, enabled=False):
            return (tokens - self.mean) @ self.matrix.T

    def inverse(self, target):
        with torch.autocast(target.device.type, enabled=False):
            return target.float() @ self.inverse_matrix.T + self.mean


class PhiS(AffineNormalizer):
    """PHI-S (Ranzinger et al., arXiv 2410.01680): equal variance, by rotation.

    Tokens are rotated so that all channels have the same variance, and scaled
    by one number, so that it is one. Angles stay, and so does the ratio of any
    two distances: no direction counts more than it does for the teacher.
    """

    @staticmethod
    def matrices(values, vectors):
        rotation = equalizer(values) @ vectors.mT
        scale = values.mean().sqrt().clamp(min=1e-6)
        return rotation / scale, rotation.mT * scale


def _deviations(values, eps):
    """Standard deviations of principal components, with a floor."""
    floor = _above_0(eps) * values.mean().clamp(min=1e-12)
    return values.clamp(min=floor).sqrt()


class PCA(AffineNormalizer):
    """Principal components, each with variance one.

    Directions that a teacher hardly uses count as much as the others. `eps`
    is the least variance of a component, in means of all: those below it stay
    below one.
    """

    @staticmethod
    def matrices(values, vectors, eps=1e-4):
        deviations = _deviations(values, eps)
        return (vectors / deviations).mT, vectors * deviations


class ZCA(AffineNormalizer):
    """Principal components with variance one, rotated back: see `PCA`.

    Of all ways to decorrelate channels the one that changes tokens least.
    """

    @staticmethod
    def matrices(values, vectors, eps=1e-4):
        deviations = _deviations(values, eps)
        return ((vectors / deviations) @ vectors.mT,
                (vectors * deviations) @ vectors.mT)


NORMALIZERS = dict(
    layer_norm=LayerNorm,
    l2=L2,
    none=Unchanged,
    standardize=Standardize,
    running=RunningStandardize,
    phi_s=PhiS,
    pca=PCA,
    zca=ZCA)


def named(normalize):
    """Which normaliser a neck's config means.

    Args:
        normalize (str | dict): as `build` takes it.

    Returns:
        tuple: its name, its class and the settings of it.

    Raises:
        Refused: for an unknown name.
    """
    settings = dict(
        normalize if isinstance(normalize, dict) else dict(type=normalize))
    name = one_of('teacher.neck.normalize', settings.pop('type', None),
                  NORMALIZERS)
    return name, NORMALIZERS[name], settings


def build(normalize, statistics, selection):
    """The normaliser that a neck's config names.

    Args:
        normalize (str | dict): one of `NORMALIZERS`, or a dict with it as
            `type` and settings of its class.
        statistics (str | None): path of a statistics file.
        selection (str): which tokens it is given, as
            `token_statistics.selection`.

    Raises:
        Refused: for an unknown name or setting; for a statistics file that is
            missing, of other tokens, or not needed.
    """
    name, kind, settings = named(normalize)
    where = 'teacher.neck.statistics'
    if kind.of_file and not statistics:
        raise Refused(
            f'teacher.neck.normalize={name!r} needs the mean and covariance '
            f'of the tokens of this teacher: {token_statistics.COMMAND} '
            f'computes them, {where}=FILE names them')
    if not isinstance(statistics or '', (str, os.PathLike)):
        raise Refused(f'{where}={statistics!r}: the path of a file is '
                      'expected')
    if statistics and not kind.of_file:
        raise Refused(f'{where}={statistics!r}: normalize={name!r} reads no '
                      'statistics; take it out')
    try:
        if not kind.of_file:
            return kind(**settings)
        found = token_statistics.load(statistics, selection)
        module = kind.of(found, **settings)
        module.teacher = found.teacher
        return module
    except TypeError as error:  # of the call
        raise Refused(f'teacher.neck.normalize={name!r}: {error}') from error


def restored(normalize, state):
    """A normaliser as a run has left it.

    Args:
        normalize (str | dict): as `build` takes it.
        state (dict): its `state_dict`.

    Raises:
        Refused: for an unknown name, and for the state of another.
    """
    name, kind, _ = named(normalize)
    try:
        module = kind(len(state['mean'])) if state else kind()
        module.load_state_dict(state)
    except (KeyError, RuntimeError, TypeError, Refused) as error:
        raise Refused(f'these are no numbers of normalize={name!r}: '
                      f'{", ".join(state) or "none"}') from error
    return module
