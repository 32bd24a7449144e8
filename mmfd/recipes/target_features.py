"""A teacher's own features, spoken by its student.

A student's projection predicts targets. Where they were normalised in a way
that has an inverse, it gives features of the teacher again, for whatever reads
these: CLIP's text tower, a decoder.
"""
from torch import nn

from mmfd.errors import Refused
from mmfd.necks import ProjectionNeck
from mmfd.registry import branches_of
from mmfd.targets import normalizers
from mmfd.weights import checkpoints
from mmfd.weights.rename import below

ONE = 'teacher'  # name of a teacher that has none, since it is the only one
NORMALIZES = {  # a teacher's neck -> its normaliser, unless a setting names it
    'mmfd.TargetNeck': 'layer_norm',
    'mmfd.WhiteningNeck': 'layer_norm',
    'mmfd.PlainNeck': 'none',
    'mmfd.L2Neck': 'l2',
}
LARGEST_GRID = 1024  # side, of a file that is not trusted


class TargetFeatures(nn.Module):
    """The projection of one teacher, and the inverse of its normaliser.

    Args:
        neck (ProjectionNeck): of the student.
        normalize (Normalizer): of the targets that it learnt.
    """

    def __init__(self, neck, normalize):
        super().__init__()
        self.neck, self.normalize = neck, normalize

    def forward(self, feats):
        """The student's features -> (B, L, C) in fp32, as the teacher's are.

        Where the normaliser keeps the direction of a token alone, the
        prediction of that.
        """
        pred = self.neck(feats).float()
        return pred if self.normalize.lost else self.normalize.inverse(pred)

    def describe(self):
        """What it gives, in a sentence without a full stop."""
        channels = self.neck.projection.out_features
        kind = type(self.normalize).__name__
        if not self.normalize.lost:
            return (f"{channels} channels of the teacher's own features, by "
                    f'the inverse of {kind}')
        return (f"{channels} channels: what {kind} leaves of the teacher's "
                f'tokens, their direction; {self.normalize.lost} is lost')


def with_projections(weights, path, model):
    """Add projections and normalisers of a checkpoint to a backbone's weights.

    Args:
        weights (dict): of the backbone.
        path (str): of the checkpoint.
        model (dict): its config.

    Returns:
        tuple: weights by their names in a checkpoint, and the parts of the
        config that belong to the projections, empty if there are none.
    """
    weights = {f'backbone.{name}': value for name, value in weights.items()}
    found = checkpoints.state_dict_in(path)
    parts = {}
    for name, neck, teacher_neck in _speaking(model, found):
        kept = {
            key: teacher_neck[key]
            for key in ('type', 'normalize') if key in teacher_neck
        }
        parts[name] = dict(neck=neck, teacher=dict(neck=kept))
        weights.update((key, value) for key, value in found.items()
                       if key.startswith(_prefixes(name)))
    several = '' not in parts and parts
    return weights, dict(branches=parts) if several else parts.get('', {})


def load(path, model):
    """The projections that a file has.

    Args:
        path (str): of a checkpoint, or of what `with_projections` gave.
        model (dict): the config that it carries, which is not trusted.

    Returns:
        dict[str, TargetFeatures]: by the names of the teachers; `ONE` where
        there is but one.

    Raises:
        Refused: if config and weights do not belong together.
    """
    weights = checkpoints.state_dict_in(path)
    found = {}
    try:
        for name, neck, teacher_neck in _speaking(model, weights):
            normalize = teacher_neck.get('normalize',
                                         NORMALIZES[teacher_neck['type']])
            states = [below(weights, p) for p in _prefixes(name)]
            found[name or ONE] = _built(neck, normalize, *states)
    except (AttributeError, KeyError, RuntimeError, TypeError,
            ValueError) as error:  # a file may hold anything
        raise Refused(f'{path} has a projection, and no config that it '
                      f'belongs to: {error}') from error
    return found


def _prefixes(name):
    """Of the names of projection and normaliser in a checkpoint."""
    own = f'branches.{name}.' if name else ''
    return f'{own}neck.', f'{own}teacher.neck.normalize.'


def _speaking(model, weights):
    """Yield (name, neck, teacher's neck) where weights predict its tokens."""
    for name, branch in branches_of(model).items():
        neck, teacher = branch.get('neck'), branch['teacher']
        its = teacher.get('neck') if isinstance(teacher, dict) else None
        known = isinstance(its, dict) and str(its.get('type')) in NORMALIZES
        if known and isinstance(
                neck, dict) and (f'{_prefixes(name)[0]}projection.weight'
                                 in weights):
            yield name, neck, its


def _built(config, normalize, projection, state):
    tokens, grid = config.get('tokens', 'all'), config.get('grid')
    sides = [grid] if isinstance(grid, int) else grid or []
    if not all(isinstance(s, int) and 0 < s <= LARGEST_GRID for s in sides):
        raise ValueError(f'neck.grid={grid!r}')
    width, channels = projection['projection.weight'].shape[::-1]
    neck = ProjectionNeck(width, channels, tokens, grid)
    neck.load_state_dict(projection)
    normalize = normalizers.restored(normalize, state)
    if state and len(normalize.mean) != channels:
        raise ValueError(f'{channels} channels, normalised as '
                         f'{len(normalize.mean)}')
    return TargetFeatures(neck, normalize)
