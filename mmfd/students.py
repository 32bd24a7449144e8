"""The students: host backbones with FD's initial weights and drop path."""
from math import sqrt

import torch
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models import BEiTViT
from torch import nn

from mmfd import checkpoints
from mmfd.registry import MODELS

SHARED_TABLE = 'rel_pos_bias.relative_position_bias_table'
INDEX = 'relative_position_index'
# The host's block drops its MLP branch in the FFN and again around it. The
# outer one is the rate that the recipe means.
DROP_ONCE = dict(ffn_cfg=dict(add_identity=False, dropout_layer=None))


@MODELS.register_module()
class StudentViT(BEiTViT):
    """FD's ViT: BEiT's blocks, position only as relative bias.

    Official file `models/vision_transformer.py`; `mmpretrain.BEiTViT` loads
    its weights. Distilled with one bias table for all blocks
    (`use_shared_rel_pos_bias`), then used with one per block
    (`use_rel_pos_bias`): loading copies the shared table into every block.

    Raises:
        ValueError: if the patch does not divide the image, or if a checkpoint
            does not fit in every weight that it should have.
    """

    def __init__(self, img_size=224, patch_size=16, **kwargs):
        if img_size % patch_size:
            nearest = img_size // patch_size * patch_size
            raise ValueError(
                f'img_size={img_size} is not a multiple of '
                f'patch_size={patch_size}: set backbone.img_size and the size '
                f'of the crops to {nearest} or {nearest + patch_size}')
        super().__init__(
            img_size=img_size,
            patch_size=patch_size,
            layer_cfgs=DROP_ONCE,
            **kwargs)

    def init_weights(self):
        """Draw FD's initial weights, then load `init_cfg` if there is one."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                # truncated at one standard deviation, as BEiT does
                trunc_normal_(module.weight, std=.02, a=-.02, b=.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        trunc_normal_(self.cls_token, std=.02, a=-.02, b=.02)
        if self.pos_embed is not None:
            trunc_normal_(self.pos_embed, std=.02, a=-.02, b=.02)
        with torch.no_grad():
            for depth, layer in enumerate(self.layers, start=1):
                layer.attn.proj.weight.div_(sqrt(2 * depth))
                layer.ffn.layers[1].weight.div_(sqrt(2 * depth))
        if self.init_cfg is not None:
            if self.init_cfg.get('type') != 'Pretrained':
                raise ValueError(f'init_cfg={self.init_cfg}: StudentViT draws '
                                 "FD's own weights or loads type='Pretrained'")
            checkpoints.load_into(self, self.init_cfg['checkpoint'],
                                  self.init_cfg.get('prefix') or '')

    def forward(self, x):
        """Images (B, 3, img_size, img_size), normalised, to a tuple."""
        if tuple(x.shape[-2:]) != self.img_size:
            height, width = x.shape[-2:]
            raise ValueError(
                f'images of {height} x {width} pixels for a backbone of '
                f'img_size={self.img_size[0]}: set backbone.img_size or the '
                'size of the crops')
        return super().forward(x)

    def train(self, mode=True):
        super().train(mode)
        return self  # the host's returns None

    def _prepare_relative_position_bias_table(self, state_dict, prefix, *_):
        """Load hook: copy a shared table into every block that has its own.

        It takes the place of the host's, which expands only where `prefix`
        is empty and resizes with a function that SciPy no longer has.
        """
        shared = state_dict.get(prefix + SHARED_TABLE)
        if shared is not None and self.use_rel_pos_bias:
            del state_dict[prefix + SHARED_TABLE]
            for i in range(self.num_layers):
                name = f'layers.{i}.attn.relative_position_bias_table'
                state_dict[prefix + name] = shared.clone()
        # which entry is which offset follows from the grid: never from a file
        for name in [n for n in state_dict if n.endswith(INDEX)]:
            del state_dict[name]
        for name, value in self.state_dict().items():
            if name.endswith(INDEX):
                state_dict[prefix + name] = value
