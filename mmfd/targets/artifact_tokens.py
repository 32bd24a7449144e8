"""Patches of a teacher that are far longer than the others of their image.

Large ViTs keep notes of their own in patches of little content (Darcet et al.,
arXiv 2309.16588). What such a patch says is not of its place, and a loss of
targets that keep their lengths sees little else (SiNGER, arXiv 2509.20986).
"""
from math import inf

from mmfd.errors import Refused, dict_with, number, one_of

LONG = 3.  # medians of the patches of an image


def lengths(patches):
    """Lengths of patches (B, n, C) in medians of their image: (B, n)."""
    own = patches.float().norm(dim=-1)
    return own / own.median(1, keepdim=True).values.clamp(min=1e-12)


def clip(patches, long=LONG):
    """Patches (B, n, C), those beyond `long` medians shortened to them."""
    scale = (long / lengths(patches)).clamp(max=1)
    return patches * scale[..., None].to(patches.dtype)


def mask(patches, long=LONG):
    """Patches (B, n, C), those beyond `long` medians NaN.

    So what is interpolated of them is NaN, too, until the neck makes zeros of
    all that is.
    """
    return patches.masked_fill((lengths(patches) > long)[..., None],
                               float('nan'))


ACTIONS = dict(clip=clip, mask=mask)


class ArtifactTokens:
    """What a neck does with the long patches, before it selects tokens.

    Args:
        settings (dict): `action`, `'clip'` or `'mask'`; `long`, from how many
            medians of the patches of its image a patch is an artifact.
        tokens (str): which tokens the neck selects.
        keeps_length (bool): whether the length of a token has a part in the
            target.

    Raises:
        Refused: for other settings, and for those that change nothing.
    """

    def __init__(self, settings, tokens, keeps_length):
        place = 'teacher.neck.artifacts'
        settings = dict(dict_with(place, settings, 'action'))
        action = one_of(f'{place}.action', settings.pop('action'), ACTIONS)
        self.long = number(
            f'{place}.long', settings.pop('long', LONG),
            'more than 1 median, 3 say, or most patches are artifacts,',
            lambda long: 1 < long < inf)
        if settings:
            raise Refused(f'{place}: action and long are expected, not '
                          f'{", ".join(map(str, settings))}')
        if tokens == 'cls' or (action, tokens) == ('mask', 'mean'):
            raise Refused(
                f"{place}.action={action!r} and teacher.neck.tokens={tokens!r}"
                ": 'clip' is for 'all', 'map' and 'mean', 'mask' for 'all' "
                "and 'map'")
        if action == 'clip' and tokens != 'mean' and not keeps_length:
            raise Refused(
                f"{place}.action='clip' would change nothing, since "
                'teacher.neck.normalize gives every token the same length: '
                "set action='mask', or normalize='phi_s'")
        self.masks, self.change = action == 'mask', ACTIONS[action]

    def __call__(self, patches):
        """(B, n, C) -> (B, n, C)."""
        return self.change(patches, self.long)

    def __str__(self):
        return f'{self.change.__name__} beyond {self.long:g}'
