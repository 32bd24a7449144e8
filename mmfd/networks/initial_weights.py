"""FD's initial weights: what a student starts from where no file is given."""
from math import sqrt

import torch
from torch import nn

from mmfd.errors import Refused
from mmfd.weights import strict_loading


@torch.no_grad()
def draw(network, distribution, last_layers):
    """Draw the weights of linear and convolution layers; set biases to zero.

    Official file `models/vision_transformer.py`, `fix_init_weight`: layers
    that write to the residual stream start smaller the deeper they are.

    Args:
        distribution (callable): fills a tensor in place.
        last_layers (list): for each block the layers that write to the
            residual stream. Those of block l, counted from 1, are divided by
            sqrt(2 l).
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            distribution(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for depth, layers in enumerate(last_layers, start=1):
        for layer in layers:
            layer.weight.div_(sqrt(2 * depth))


def load_init_cfg(network):
    """Load the weights that `network.init_cfg` names, if it is set.

    Raises:
        Refused: if it is not `dict(type='Pretrained', checkpoint=FILE)`, or
            if the file does not fit the network in every weight that it
            should have.
    """
    init_cfg = network.init_cfg
    if init_cfg is None:
        return
    if (not isinstance(init_cfg, dict) or init_cfg.get('type') != 'Pretrained'
            or 'checkpoint' not in init_cfg):
        raise Refused(
            f"init_cfg={init_cfg}: {type(network).__name__} draws FD's "
            'initial weights or loads a file: set backbone.init_cfg to '
            "dict(type='Pretrained', checkpoint=FILE)")
    strict_loading.load_into(network, init_cfg['checkpoint'],
                             init_cfg.get('prefix') or '')
