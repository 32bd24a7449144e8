"""What each side does to its tokens before they meet in the head.

A neck takes the features of a host backbone, a tuple whose last element is
either tokens (B, L, C) or a map (B, C, h, w), and returns tokens (B, L, C').
All necks first select tokens by one rule, `TokenSelector`, then each does its
own work. Normalisation comes last, so a target has the variance or the length
that its neck promises, even if tokens were interpolated or averaged before.
For a projection, which is linear, the order makes no difference.
"""
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn

from mmfd.errors import Refused, one_of
from mmfd.networks.library_network import pair
from mmfd.networks.token_layout import Features
from mmfd.registry import MODELS
from mmfd.targets import normalizers
from mmfd.targets.artifact_tokens import ArtifactTokens
from mmfd.targets.token_statistics import selection
from mmfd.weights import strict_loading, weight_files

SELECTIONS = dict(  # of cls tokens (B, n, C) and patch tokens (B, h * w, C)
    all=lambda cls, patches: torch.cat((cls, patches), 1),
    map=lambda cls, patches: patches,
    cls=lambda cls, patches: cls[:, :1],
    mean=lambda cls, patches: patches.mean(1, keepdim=True))


class TokenSelector:
    """Select the tokens that a neck works on, and resize their grid.

    Tokens (B, L, C) are a cls token, or several, followed by the patches of a
    map in row-major order: how many and on which grid, the network says
    (`Features`). Registers, a network's notes to itself, are not among them.
    A map (B, C, h, w) has no cls token. Patches are interpolated to the wanted
    grid: bilinearly, in fp32, with antialiasing where the grid shrinks. Cls
    tokens stay as they are. Both sides follow this rule, so a student can meet
    a teacher of another grid on the student's grid, on the teacher's or on a
    third one.

    Args:
        side (str): which side's config messages speak of: `''` for the
            student, `'teacher.'` for the teacher.
        tokens (str): `'all'`; `'map'`, the patches; `'cls'`, the first cls
            token; `'mean'`, the mean of the patches, as fine-tuning pools.
        grid (int | tuple): side or (h, w) of the grid of patches. None keeps
            the backbone's.
        change (Callable): the backbone's patches (B, n, C) -> those that are
            selected from.
    """

    def __init__(self, side, tokens, grid, change=None):
        self.side = side
        self.tokens = one_of(f'{side}neck.tokens', tokens, SELECTIONS)
        self.grid = pair(grid, f'{side}neck.grid', 'patches')
        self.change = change

    def __call__(self, feats):
        """Features of a backbone -> tokens (B, L, C).

        Raises:
            Refused: if the features are neither, or lack what is to be
                selected.
        """
        tokens = feats[-1]
        if tokens.ndim == 4:  # (B, C, h, w)
            tokens = tokens.flatten(2).transpose(1, 2)  # (B, h * w, C)
        elif tokens.ndim != 3:
            raise Refused(
                f'{self.side}backbone gives {tuple(tokens.shape)}, neither '
                'tokens (B, L, C) nor a map (B, C, h, w): '
                f"{self.side}backbone.out_type='raw' gives those of networks "
                'of mmpretrain, mmfd.TimmNetwork those of timm; for others '
                'write a neck')
        if (self.tokens, self.grid, self.change) == ('all', None, None):
            return tokens
        before, (h, w) = self._layout(feats)
        cls, patches = tokens.tensor_split([before], 1)
        if self.tokens == 'cls' and not cls.shape[1]:
            raise Refused(
                f'{self.side}backbone has no cls token among its {h} x {w}: '
                f"set {self.side}neck.tokens='mean'")
        if self.change:
            patches = self.change(patches)
        if self.grid and self.grid != (h, w):
            patches = _resize(patches, (h, w), self.grid)
        return SELECTIONS[self.tokens](cls, patches)

    def _layout(self, feats):
        """How many tokens are before the map, and its (h, w)."""
        if not isinstance(feats, Features):
            feats = Features(feats, None)
        cls, grid = feats.cls, feats.grid
        if grid:
            return cls, grid
        count = feats[-1].shape[1]
        if cls is None:
            raise Refused(
                f'{self.side}backbone gives {count} tokens and does not say '
                'how many of them are before the map: let its class have '
                'num_extra_tokens, 0 if none are, as those of mmpretrain, or '
                f"set {self.side}backbone.out_type='featmap'")
        raise Refused(
            f'{self.side}backbone gives {count} tokens, {cls} of them before '
            'the map, and the others make no grid on these images: set the '
            'size of the crops to a multiple of its patches')


def _resize(patches, grid, new_grid):
    featmap = patches.transpose(1, 2).unflatten(2, grid).float()
    featmap = F.interpolate(featmap, new_grid, mode='bilinear', antialias=True)
    return featmap.flatten(2).transpose(1, 2).to(patches.dtype)


@MODELS.register_module()
class ProjectionNeck(BaseModule):
    """The student's side: one linear layer to the teacher's width.

    The 1x1 convolution over tokens of the official code (`FD.decoder`), with
    PyTorch's default initial weights. Nothing uses it after distillation.

    Args:
        in_channels (int): the student's width.
        out_channels (int): the teacher's width.
        tokens (str), grid (int | tuple): see `TokenSelector`, as in all necks.
    """

    def __init__(self, in_channels, out_channels, tokens='all', grid=None):
        super().__init__()
        self.select_tokens = TokenSelector('', tokens, grid)
        self.projection = nn.Linear(in_channels, out_channels)

    def forward(self, feats):
        """Features of a backbone -> (B, L, out_channels)."""
        tokens = self.select_tokens(feats)
        width, expected = tokens.shape[-1], self.projection.in_features
        if width != expected:
            raise Refused(
                f'the student has {width} channels, the projection takes '
                f'{expected}: set neck.in_channels={width}')
        return self.projection(tokens)


@MODELS.register_module()
class TargetNeck(nn.Module):
    """The teacher's side: select its tokens, then normalise them in fp32.

    Args:
        normalize (str | dict): a name of `mmfd.targets.normalizers`, such as
            `'phi_s'`, or a dict with the name as `type` and its settings.
        statistics (str): file of `mmfd statistics`, for those that need one.
        tokens (str), grid (int | tuple): see `TokenSelector`.
        artifacts (dict): what to do with patches whose length is more than
            `long` (3) times the median of their image, before tokens are
            resized and normalised: `action='clip'` shortens them to that,
            `action='mask'` gives them targets of zeros, which
            `mmfd.MaskedLoss` leaves out. None does nothing.

    Raises:
        Refused: as `normalizers.build` and `ArtifactTokens`.
    """

    def __init__(self,
                 normalize='layer_norm',
                 statistics=None,
                 tokens='all',
                 grid=None,
                 artifacts=None):
        super().__init__()
        _, kind, _ = normalizers.named(normalize)
        self.artifacts = artifacts and ArtifactTokens(artifacts, tokens,
                                                      not kind.lost)
        self.masks = bool(artifacts) and self.artifacts.masks
        self.select_tokens = TokenSelector('teacher.', tokens, grid,
                                           self.artifacts)
        self.selection = selection(tokens, grid, self.artifacts)
        self.normalize = normalizers.build(normalize, statistics,
                                           self.selection)

    def forward(self, feats):
        """Features of a backbone -> (B, L, C) in fp32."""
        tokens = self.select_tokens(feats).float()
        target = self.normalize(tokens)
        if self.masks:
            masked = tokens.isnan().any(-1, keepdim=True)
            target = target.masked_fill(masked, 0.)
        return target


@MODELS.register_module()
class WhiteningNeck(TargetNeck):
    """The teacher's side: each token gets zero mean and unit variance.

    Whitening as FD means it (sec. 3.2, `FD.ln_tgt` in the official code): a
    LayerNorm over channels without weights, after the teacher's own final
    norm. Channels are not decorrelated and no statistics of the batch are
    used.
    """

    def __init__(self, eps=1e-5, tokens='all', grid=None):
        super().__init__(
            dict(type='layer_norm', eps=eps), tokens=tokens, grid=grid)


@MODELS.register_module()
class PlainNeck(TargetNeck):
    """The teacher's side in an ablation: its tokens as they are, in fp32.

    The teacher's own final norm makes this the paper's LayerNorm with weights:
    `PRED_FEAT_AFTERNORM` of the official code without `ln_tgt`. With
    `teacher.backbone.final_norm=False` the target is not normalised at all.
    """

    def __init__(self, tokens='all', grid=None):
        super().__init__('none', tokens=tokens, grid=grid)


@MODELS.register_module()
class L2Neck(TargetNeck):
    """The teacher's side in an ablation: every token is scaled to length one.

    In the place of whitening, after the teacher's own final norm.
    """

    def __init__(self, tokens='all', grid=None):
        super().__init__('l2', tokens=tokens, grid=grid)


@MODELS.register_module()
class LogitsNeck(nn.Module):
    """The teacher's side in an ablation: the logits of its own classifier.

    They are whitened over classes, as tokens are over channels, so that the
    ablation changes the target but not its scale. The paper does not say how
    it compared logits. The classifier's weights are never trained and never
    saved, like the rest of the teacher's.

    Args:
        in_channels (int): the teacher's width.
        num_classes (int): width of the target.
        checkpoint (str): file that holds the classifier, a linear layer.
            `'random'` takes random weights, for tests.
        prefix (str): what the names of its weights begin with in the file.
        tokens (str): what the teacher classifies: `'cls'` or `'mean'`.
    """

    def __init__(self,
                 in_channels,
                 num_classes,
                 checkpoint,
                 prefix='head.',
                 tokens='cls',
                 eps=1e-5):
        super().__init__()
        self.select_tokens = TokenSelector('teacher.', tokens, grid=None)
        self.whiten = normalizers.LayerNorm(eps)
        linear = nn.Linear(in_channels, num_classes)
        if checkpoint != weight_files.RANDOM:
            strict_loading.load_into(linear, checkpoint, prefix, half=True)
        for name, value in linear.state_dict().items():
            self.register_buffer(name, value, persistent=False)

    def logits(self, feats):
        """Features of a backbone -> (B, 1, num_classes) in fp32."""
        tokens = self.select_tokens(feats).float()
        return F.linear(tokens, self.weight.float(), self.bias.float())

    def forward(self, feats):
        """The logits, whitened: (B, 1, num_classes) in fp32."""
        return self.whiten(self.logits(feats))
