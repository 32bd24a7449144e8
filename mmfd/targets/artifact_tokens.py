"""Patches of a teacher that are far longer than the others of their image.

Large ViTs keep notes of their own in patches of little content (Darcet et al.,
arXiv 2309.16588). What such a patch says is not of its place, and a loss of
targets that keep their lengths sees little else (SiNGER, arXiv 2509.20986).
"""
from mmfd.errors import Refused

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
        settings = dict(settings)
        place, action = 'teacher.neck.artifacts', settings.pop('action', None)
        self.long = settings.pop('long', LONG)
        if action not in ACTIONS or settings:
            raise Refused(
                f'{place}: action is to be one of '
                f'{", ".join(map(repr, ACTIONS))}, and long a number; not '
                f'{dict(settings, action=action)}')
        if not self.long > 1:
            raise Refused(f'{place}.long={self.long}: more than 1 median is '
                          'expected, 3 say, or most patches are artifacts')
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
