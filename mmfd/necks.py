"""What each side does to its tokens before they meet.

A neck takes what a host backbone returns, a tuple whose last element is
tokens (B, L, C) or a map (B, C, h, w), and returns (B, L, C') tokens. All
necks read by one rule, `Reader`: which tokens, on which grid. What follows is
each neck's own. Normalisation comes last, so that a target has the length or
the variance that its neck promises, whatever was interpolated or averaged
before; a projection is linear and does not mind.
"""
from math import isqrt

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn

from mmfd.errors import Refused
from mmfd.registry import MODELS
from mmfd.weights import checkpoints, strict_loading

TOKENS = dict(  # what may be read of cls (B, n, C) and patches (B, hw, C)
    all=lambda cls, patches: torch.cat((cls, patches), 1),
    map=lambda cls, patches: patches,
    cls=lambda cls, patches: cls[:, :1],
    mean=lambda cls, patches: patches.mean(1, keepdim=True))


class Reader:
    """Which tokens a neck reads of its backbone, and on which grid.

    Tokens (B, L, C) are seen as a cls token, or a few, and a square map row
    by row; a map (B, C, h, w) has no cls token. The map is interpolated to
    the asked grid: bilinearly, in fp32, with antialiasing where it shrinks.
    The cls token passes. Both sides have this rule, so a student meets a
    teacher of another grid on its own, on the teacher's or on a third one.

    Args:
        side (str): where the neck is in the config: '' or 'teacher.'.
        tokens (str): `'all'`; `'map'`, without cls token; `'cls'`, the first
            alone; `'mean'`, the mean of the map without cls token, as
            fine-tuning pools it.
        grid (int | tuple): side or (h, w) of the map. None keeps it.
    """

    def __init__(self, side, tokens, grid):
        if tokens not in TOKENS:
            raise Refused(f'{side}neck.tokens={tokens!r}: expected one of '
                          f'{", ".join(map(repr, TOKENS))}')
        self.side = side
        self.tokens = tokens
        self.grid = (grid, grid) if isinstance(grid, int) else grid

    def __call__(self, feats):
        """Tuple ending in tokens or a map to tokens (B, L, C)."""
        last, seen = feats[-1], None
        if last.ndim == 4:  # (B, C, h, w)
            seen, last = last.shape[2:], last.flatten(2).transpose(1, 2)
        elif last.ndim != 3:
            raise Refused(
                f'{self.side}backbone gives {tuple(last.shape)}, neither '
                'tokens (B, L, C) nor a map (B, C, h, w): set '
                f"{self.side}backbone.out_type='raw', or write a neck for it")
        if (self.tokens, self.grid) == ('all', None):
            return last  # (B, L, C), whatever the layout
        h, w = seen or self._square(last)
        cls, patches = last.tensor_split([last.shape[1] - h * w], 1)
        if self.tokens == 'cls' and not cls.shape[1]:
            raise Refused(
                f'{self.side}backbone has no cls token among its {h} x {w}: '
                f"set {self.side}neck.tokens='mean'")
        if self.grid and tuple(self.grid) != (h, w):
            patches = _resize(patches, (h, w), tuple(self.grid))
        return TOKENS[self.tokens](cls, patches)

    def _square(self, tokens):
        side = isqrt(tokens.shape[1])
        if tokens.shape[1] - side**2 > 5:  # cls, distillation, registers
            raise Refused(
                f'{self.side}backbone gives {tokens.shape[1]} tokens, which '
                'are no square map after a cls token: set '
                f"{self.side}backbone.out_type='featmap'")
        return side, side


def _resize(patches, source, target):
    featmap = patches.transpose(1, 2).unflatten(2, source).float()
    featmap = F.interpolate(featmap, target, mode='bilinear', antialias=True)
    return featmap.flatten(2).transpose(1, 2).to(patches.dtype)


def _whiten(tokens, eps):
    return F.layer_norm(tokens.float(), tokens.shape[-1:], eps=eps)


@MODELS.register_module()
class ProjectionNeck(BaseModule):
    """The student's side: one linear layer to the teacher's width.

    The official code's 1x1 convolution over tokens (`FD.decoder`), with
    PyTorch's own initial weights. It is not used after distillation.
    `tokens` and `grid` are those of `Reader`, as in every neck.
    """

    def __init__(self, in_channels, out_channels, tokens='all', grid=None):
        super().__init__()
        self.read = Reader('', tokens, grid)
        self.projection = nn.Linear(in_channels, out_channels)

    def forward(self, feats):
        """Tuple ending in tokens or a map to (B, L, out_channels)."""
        tokens = self.read(feats)
        width, expected = tokens.shape[-1], self.projection.in_features
        if width != expected:
            raise Refused(
                f'the student has {width} channels, the projection takes '
                f'{expected}: set neck.in_channels={width}')
        return self.projection(tokens)


@MODELS.register_module()
class WhiteningNeck(nn.Module):
    """The teacher's side: zero mean and unit variance, per token.

    Whitening in FD's sense (sec. 3.2, `FD.ln_tgt`): a LayerNorm over channels
    without affine, after the teacher's own final norm with its affine. No
    decorrelation, no batch statistics. Always in fp32.
    """

    def __init__(self, eps=1e-5, tokens='all', grid=None):
        super().__init__()
        self.read = Reader('teacher.', tokens, grid)
        self.eps = eps

    def forward(self, feats):
        """Tuple ending in tokens or a map to (B, L, C) fp32."""
        return _whiten(self.read(feats), self.eps)


@MODELS.register_module()
class PlainNeck(nn.Module):
    """The teacher's side in an ablation: its features as they are, in fp32.

    After the teacher's own final norm that is the paper's LayerNorm with
    affine: `PRED_FEAT_AFTERNORM` of the official code without its `ln_tgt`.
    With `teacher.backbone.final_norm=False` nothing normalises them at all.
    """

    def __init__(self, tokens='all', grid=None):
        super().__init__()
        self.read = Reader('teacher.', tokens, grid)

    def forward(self, feats):
        """Tuple ending in tokens or a map to (B, L, C) fp32."""
        return self.read(feats).float()


@MODELS.register_module()
class L2Neck(nn.Module):
    """The teacher's side in an ablation: every token of length one.

    After the teacher's own final norm, in the place of whitening. A channel
    then has a mean square of 1 / C, so smooth-L1 is its quadratic part alone.
    """

    def __init__(self, tokens='all', grid=None):
        super().__init__()
        self.read = Reader('teacher.', tokens, grid)

    def forward(self, feats):
        """Tuple ending in tokens or a map to (B, L, C) fp32."""
        return F.normalize(self.read(feats).float(), dim=-1)


@MODELS.register_module()
class LogitsNeck(nn.Module):
    """The teacher's side in an ablation: the logits of its own classifier.

    Whitened over the classes, as features are over channels, so that the
    ablation changes the target and not its scale; the paper does not say how
    its logits were compared. Like the teacher's, the classifier's weights are
    never trained and never saved.

    Args:
        in_channels (int): the teacher's width.
        num_classes (int): the width of the target.
        checkpoint (str): file that holds the classifier, a linear layer; as
            the teacher's, `'random'` for tests.
        prefix (str): where in the file it is.
        tokens (str): what the teacher classifies by: `'cls'` or `'mean'`.
    """

    def __init__(self,
                 in_channels,
                 num_classes,
                 checkpoint,
                 prefix='head.',
                 tokens='cls',
                 eps=1e-5):
        super().__init__()
        self.read = Reader('teacher.', tokens, grid=None)
        self.eps = eps
        linear = nn.Linear(in_channels, num_classes)
        if checkpoint != checkpoints.RANDOM:
            strict_loading.load_into(linear, checkpoint, prefix)
        for name, value in linear.state_dict().items():
            self.register_buffer(name, value, persistent=False)

    def logits(self, feats):
        """Tuple ending in tokens or a map to (B, 1, num_classes) fp32."""
        tokens = self.read(feats).float()
        return F.linear(tokens, self.weight.float(), self.bias.float())

    def forward(self, feats):
        """The same, whitened."""
        return _whiten(self.logits(feats), self.eps)
