"""Mean and covariance of a teacher's tokens, and the file that holds them."""
import json
from pathlib import Path
from typing import NamedTuple

import torch

from mmfd.errors import Refused
from mmfd.weights import checkpoints

COMMAND = 'mmfd statistics CONFIG --images DIR --number N --out FILE'


def selection(tokens, grid, artifacts=None):
    """Which tokens of a teacher are meant, as text.

    Args:
        tokens (str), grid (int | tuple | None): as a neck takes them.
        artifacts (ArtifactTokens | None): of a neck.
    """
    side = [grid, grid] if isinstance(grid, int) else grid
    changed = f', artifacts={str(artifacts)!r}' if artifacts else ''
    return f'tokens={tokens!r}, grid={json.dumps(side)}{changed}'


class TokenStatistics(NamedTuple):
    """What normalisers read of a teacher's tokens.

    Attributes:
        mean (Tensor): (C, ) in fp64.
        covariance (Tensor): (C, C) in fp64, divided by the number of tokens
            less one.
        tokens (int): how many tokens they are of.
        images (int): how many images.
        teacher (str): fingerprint of the teacher, as `Teacher.fingerprint`.
        selection (str): which of its tokens, as `selection` says it.
        img_size (str): JSON of the height and width that it saw, in pixels.
    """
    mean: torch.Tensor
    covariance: torch.Tensor
    tokens: int
    images: int
    teacher: str
    selection: str
    img_size: str

    def save(self, path):
        """Write a file of safetensors.

        Raises:
            Refused: as `checkpoints.save`, and for another suffix.
        """
        check_suffix(path)
        meta = {
            name: str(value)
            for name, value in self._asdict().items()
            if not torch.is_tensor(value)
        }
        tensors = dict(mean=self.mean, covariance=self.covariance)
        checkpoints.save(tensors, path, meta)


def check_suffix(path):
    """Refuse a file that does not end as those of statistics do."""
    if Path(path).suffix != '.safetensors':
        raise Refused(f'{path} is to end in .safetensors')


def load(path, expected):
    """Read the statistics of a teacher's tokens.

    Args:
        path (str): file that `TokenStatistics.save` wrote.
        expected (str): which tokens they are to be of, as `selection`.

    Returns:
        TokenStatistics

    Raises:
        Refused: if there is no such file, it holds anything else, or is of
            other tokens.
    """
    tensors = checkpoints.load(path, f'This makes it: {COMMAND}')
    meta = checkpoints.meta(path)
    try:
        found = TokenStatistics(tensors['mean'].double(),
                                tensors['covariance'].double(),
                                int(meta['tokens']), int(meta['images']),
                                meta['teacher'], meta['selection'],
                                meta['img_size'])
        width, = found.mean.shape
        sound = 0 < width < found.tokens and found.covariance.shape == (
            width, width) and _sound(tensors['mean'], tensors['covariance'])
    except (KeyError, TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise Refused(f'{path} does not hold a finite mean and covariance of '
                      f'tokens, and of which they are. This makes it: '
                      f'{COMMAND}')
    if found.selection != expected:
        raise Refused(
            f'{path} is of {found.selection}, and teacher.neck has '
            f'{expected}: set teacher.neck to the same, or compute the '
            f'statistics of its tokens: {COMMAND}')
    return found


def _sound(mean, covariance):
    """Whether these can be mean (C, ) and covariance (C, C) of tokens.

    As no constant ones have.
    """
    variances = covariance.diagonal()
    return bool(mean.is_floating_point() and covariance.is_floating_point()
                and mean.isfinite().all() and covariance.isfinite().all()
                and (variances >= 0).all() and variances.any()
                and torch.allclose(covariance, covariance.mT))


class TokenMoments:
    """Sum up tokens batch by batch, in fp64.

    The sums are of distances from the mean so far, so a large mean costs no
    digits (Chan et al., 1983).
    """

    def __init__(self):
        self.count, self.mean, self.scatter = 0, 0., 0.

    def add(self, tokens):
        """Add tokens (..., C)."""
        flat = tokens.flatten(0, -2).double()
        mean = flat.mean(0)
        centred, apart = flat - mean, mean - self.mean
        total = self.count + len(flat)
        self.scatter = self.scatter + centred.mT @ centred + torch.outer(
            apart, apart) * (
                self.count * len(flat) / total)
        self.mean = self.mean + apart * (len(flat) / total)
        self.count = total

    def covariance(self):
        """(C, C), divided by the number of tokens less one."""
        return self.scatter / max(1, self.count - 1)
