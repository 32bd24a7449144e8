"""Several layers in the loss: each side has a neck for each of them."""
import torch
from mmengine.model import BaseModule
from torch import nn

from mmfd.errors import Refused
from mmfd.networks.token_layout import Features, check_tokens
from mmfd.registry import MODELS, build_part


@MODELS.register_module()
class LayersNeck(BaseModule):
    """The necks of several layers, whose channels come one after the other.

    `out_indices` of the backbone names its layers, and each of `necks` takes
    one, from the first layer to the last. The loss is then the mean over all
    layers, each by its share of the channels. Student and teacher have necks
    in pairs; which of their layers make a pair, their `out_indices` say.

    Args:
        necks (list[dict]): configs of the necks that a single layer has.

    Raises:
        Refused: if there are fewer necks than layers or more, if tokens of
            layers differ in number, or if a neck masks artifact tokens, which
            are others in each layer.
    """

    def __init__(self, necks):
        super().__init__()
        if not isinstance(necks, (list, tuple)) or not necks:
            raise Refused(f'mmfd.LayersNeck.necks={necks!r}: a list of the '
                          'config of a neck for each layer is expected')
        self.necks = nn.ModuleList(
            build_part(f'mmfd.LayersNeck.necks.{i}', neck, 'neck')
            for i, neck in enumerate(necks))
        if any(getattr(neck, 'masks', False) for neck in self.necks):
            raise Refused(
                "artifacts.action='mask' leaves tokens out in all layers, and "
                "other ones are long in each: set it to 'clip'")

    @property
    def select_tokens(self):
        """That of the first neck; the others select as many tokens."""
        return self.necks[0].select_tokens

    def forward(self, feats):
        """Features of a backbone -> (B, L, sum of the widths)."""
        if len(feats) != len(self.necks):
            raise Refused(
                f'the backbone gives {len(feats)} layers, and mmfd.LayersNeck '
                f'has {len(self.necks)} necks: let backbone.out_indices name '
                'a layer for each')
        tokens = [
            neck(_until(feats, layer)) for layer, neck in enumerate(self.necks)
        ]
        for layer, each in enumerate(tokens):
            check_tokens(f'mmfd.LayersNeck.necks.{layer}', each,
                         'mmfd.ProjectionNeck')
        counts = [each.shape[1] for each in tokens]
        if len({*counts}) > 1:
            raise Refused(
                f'the layers of mmfd.LayersNeck give {counts} tokens: set the '
                'same grid=(h, w) in all of its necks')
        return torch.cat(tokens, -1)


def _until(feats, layer):
    """The features of a backbone that ends with one of its layers."""
    return Features(feats[:layer + 1], feats.cls, feats.grid)
