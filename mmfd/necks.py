"""What each side does to its tokens before they meet.

A neck takes what a host backbone returns, a tuple whose last element is
tokens (B, L, C) or a map (B, C, h, w), and returns (B, L, C') tokens.
"""
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn

from mmfd.registry import MODELS


@MODELS.register_module()
class ProjectionNeck(BaseModule):
    """The student's side: one linear layer to the teacher's width.

    The official code's 1x1 convolution over tokens (`FD.decoder`), with
    PyTorch's own initial weights. It is not used after distillation.
    """

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.projection = nn.Linear(in_channels, out_channels)

    def forward(self, feats):
        """Tuple ending in tokens or a map to (B, L, out_channels)."""
        tokens = _tokens(feats, 'backbone')
        width, expected = tokens.shape[-1], self.projection.in_features
        if width != expected:
            raise ValueError(
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

    def __init__(self, eps=1e-5):
        super().__init__()
        self.eps = eps

    def forward(self, feats):
        """Tuple ending in tokens or a map to (B, L, C) fp32."""
        tokens = _tokens(feats, 'teacher.backbone').float()
        return F.layer_norm(tokens, tokens.shape[-1:], eps=self.eps)


def _tokens(feats, backbone):
    last = feats[-1]
    if last.ndim == 4:  # (B, C, h, w)
        last = last.flatten(2).transpose(1, 2)  # (B, L, C)
    if last.ndim != 3:
        raise ValueError(
            f'{backbone} gives {tuple(last.shape)}, neither tokens (B, L, C) '
            f"nor a map (B, C, h, w): set {backbone}.out_type='raw', or write "
            'a neck for it')
    return last
