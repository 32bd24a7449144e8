"""The ViT student: BEiT's ViT with FD's initial weights and strict loading."""
from functools import partial

from mmengine.model import BaseModule, ModuleList
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models import BEiTViT
from mmpretrain.models.utils import BEiTAttention
from torch.nn import Parameter

from mmfd.errors import Refused
from mmfd.fast.attention import bias_of
from mmfd.fast.blocks import ViTBlock
from mmfd.hosts.lookup import check_methods
from mmfd.networks import (any_size, image_size, initial_weights,
                           relative_position, some_patches)
from mmfd.networks.block_indices import from_the_first
from mmfd.registry import MODELS

SHARED, TABLE = 'rel_pos_bias.', 'relative_position_bias_table'
# The host's block drops its MLP branch in the FFN and once more around it.
# The drop around it has the rate that the recipe means.
DROP_ONCE = dict(ffn_cfg=dict(add_identity=False, dropout_layer=None))


@MODELS.register_module()
class StudentViT(BEiTViT):
    """FD's ViT: BEiT's blocks, and positions as relative position bias.

    Official file `models/vision_transformer.py`; `mmpretrain.BEiTViT` loads
    its weights. It is distilled with one bias table for all blocks
    (`use_shared_rel_pos_bias`) and fine-tuned with one for each
    (`use_rel_pos_bias`): loading copies the shared table into every block,
    and resamples tables and absolute positions for the grid of `img_size`.

    Without a cls token (`with_cls_token=False`) tables have no rows for one.

    With `out_type='featmap'` it takes images of any size, as detectors and
    segmentors need, and returns a map (B, C, h, w) for each of `out_indices`.

    Args:
        window_size (int): side in patches of the windows within which blocks
            attend; 0 is attention over all patches. Needs
            `out_type='featmap'`.
        global_blocks (Sequence[int]): blocks that attend over all patches
            although `window_size` is set.
        with_cp (bool): activation checkpointing: compute each block again in
            the backward instead of keeping its activations.

    Raises:
        Refused: if the patch does not divide the image, if an index is that
            of no block, if a cls token is to be returned and there is none,
            or if a checkpoint does not fit in every weight that it should
            have.
    """

    def __init__(self,
                 arch='base',
                 img_size=224,
                 patch_size=16,
                 out_indices=-1,
                 out_type='avg_featmap',
                 window_size=0,
                 global_blocks=(),
                 with_cp=False,
                 **kwargs):
        check_methods(BEiTViT, '_prepare_relative_position_bias_table',
                      '_freeze_stages')
        image_size.check_multiple(img_size, patch_size,
                                  f'patch_size={patch_size}')
        if out_type == 'cls_token' and not kwargs.get('with_cls_token', True):
            raise Refused(
                "out_type='cls_token' with with_cls_token=False: set "
                "backbone.out_type='avg_featmap'")
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            out_type=out_type,
            layer_cfgs=DROP_ONCE,
            **kwargs)
        self.out_indices = from_the_first('out_indices', out_indices,
                                          self.num_layers, 'blocks')
        self.global_blocks = from_the_first('global_blocks', global_blocks,
                                            self.num_layers, 'blocks', 0)
        self.window_size = window_size
        if out_type != 'featmap' and window_size:
            raise Refused(f'out_type={out_type!r} with window_size: set '
                          "backbone.out_type='featmap'")
        self.layers = ModuleList(
            ViTBlock(layer, with_cp) for layer in self.layers)
        if self.rel_pos_bias is not None:
            self.rel_pos_bias = SharedBias(self.rel_pos_bias)
        if not self.with_cls_token:
            _leave_out_cls_rows(self)

    def init_weights(self):
        """Draw FD's initial weights, then load `init_cfg` if it is set."""
        # truncated at one standard deviation, as BEiT does and the official
        # code for a student; that for a classifier from scratch is not
        normal = partial(trunc_normal_, std=.02, a=-.02, b=.02)
        initial_weights.draw(self, normal,
                             [(layer.attn.proj, layer.ffn.layers[1])
                              for layer in self.layers])
        if self.with_cls_token:
            normal(self.cls_token)
        if self.pos_embed is not None:
            normal(self.pos_embed)
        initial_weights.load_init_cfg(self)

    def train(self, mode=True):
        super().train(mode)
        if self.frozen_stages > 0:  # the host freezes them only when built
            self._freeze_stages()
        return self  # the host's returns None

    def _freeze_stages(self):
        if self.frozen_stages > self.num_layers:
            raise Refused(f'frozen_stages={self.frozen_stages} of a backbone '
                          f'of {self.num_layers} blocks')
        super()._freeze_stages()
        all_frozen = self.frozen_stages == self.num_layers
        if all_frozen and self.rel_pos_bias is not None:
            self.rel_pos_bias.requires_grad_(False)

    def forward(self, x, patches=None):
        """Normalised images (B, 3, H, W) to a tuple, as `out_type` says.

        Args:
            patches (Tensor): indices of the patches to see, (n, ). Then it
                returns tokens alone: see `some_patches`.
        """
        if patches is not None:
            return (some_patches.forward(self, x, patches), )
        if self.out_type == 'featmap':
            return any_size.forward(self, x)
        image_size.check_equal(x, self.img_size[0])
        return super().forward(x)

    def _prepare_relative_position_bias_table(self, state_dict, prefix, *_):
        """Load hook: fit the file's bias tables to these blocks and grid.

        A shared table is copied into every block that has its own, and each
        is resampled. It replaces the host's hook, which copies only where
        `prefix` is empty and resizes with a function that SciPy removed.
        """
        if self.use_rel_pos_bias and prefix + SHARED + TABLE in state_dict:
            shared = state_dict.pop(prefix + SHARED + TABLE)
            for i in range(self.num_layers):
                state_dict[f'{prefix}layers.{i}.attn.{TABLE}'] = shared.clone()
        relative_position.keep_derived_buffers(self, state_dict, prefix)
        for name, table in self.named_parameters():
            if name.endswith(TABLE) and prefix + name in state_dict:
                state_dict[prefix + name] = relative_position.fit(
                    state_dict[prefix + name], len(table),
                    self.patch_resolution)


class SharedBias(BaseModule):
    """The relative position bias of all blocks, with or without a cls token.

    Args:
        host (RelativePositionBias): whose table it takes over.
    """

    def __init__(self, host):
        super().__init__()
        self.relative_position_bias_table = host.relative_position_bias_table
        self.register_buffer('relative_position_index',
                             host.relative_position_index)

    def forward(self):
        """The bias of all pairs of tokens, (H, L, L)."""
        return bias_of(self)


def _leave_out_cls_rows(vit):
    """Leave out the rows that the host's tables have for a cls token."""
    for module in vit.modules():
        if isinstance(module, (SharedBias, BEiTAttention)) and (
                module.relative_position_bias_table is not None):
            module.relative_position_bias_table = Parameter(
                module.relative_position_bias_table.data[:-any_size.CLS_ROWS].
                clone())
            module.relative_position_index = (
                module.relative_position_index[1:, 1:].contiguous())
