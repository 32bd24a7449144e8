"""The students: host backbones with FD's initial weights and drop path."""
import re
from functools import partial
from math import isqrt, log, prod, sqrt

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models import BEiTViT, SwinTransformerV2
from mmpretrain.models.utils import WindowMSAV2, to_2tuple
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmfd.errors import Refused
from mmfd.fast import attention
from mmfd.fast.drop_path import residual
from mmfd.fast.recompute import feed_forward, normed
from mmfd.networks import any_size, relative_position
from mmfd.registry import MODELS
from mmfd.weights import checkpoints
from mmfd.weights.meta_device import RealSchedules

SHARED, TABLE = 'rel_pos_bias.', 'relative_position_bias_table'
# The host's block drops its MLP branch in the FFN and again around it. The
# outer one is the rate that the recipe means.
DROP_ONCE = dict(ffn_cfg=dict(add_identity=False, dropout_layer=None))


class Student:
    """What the students share, beside a host backbone in their bases."""

    def init_weights(self):
        """Draw FD's initial weights, then load `init_cfg` if there is one."""
        self.draw_weights()
        if self.init_cfg is not None:
            name = type(self).__name__
            if self.init_cfg.get('type') != 'Pretrained':
                raise Refused(f"init_cfg={self.init_cfg}: {name} draws FD's "
                              "own weights or loads type='Pretrained'")
            checkpoints.load_into(self, self.init_cfg['checkpoint'],
                                  self.init_cfg.get('prefix') or '')

    def train(self, mode=True):
        super().train(mode)
        if self.frozen_stages > 0:  # which BEiT's ViT forgets
            self._freeze_stages()
        return self  # the host's returns None


class ViTBlock(nn.Module):
    """A block of BEiT's ViT: residual branches with layer scale.

    Of the host's parts, by the host's names.
    """
    branches_to_compile = 'attention_branch', 'ffn_branch'

    def __init__(self, host, with_cp):
        super().__init__()
        self.gamma_1, self.gamma_2 = host.gamma_1, host.gamma_2
        self.ln1, self.attn = host.ln1, host.attn
        self.ln2, self.ffn = host.ln2, host.ffn
        self.drop_path = host.drop_path
        self.with_cp = with_cp

    def forward(self, x, bias=None, attend=attention.attend):
        """Tokens (B, L, C) to the same.

        Args:
            bias (Tensor): of all blocks, (H, L, L). None takes the block's
                own, if it has one.
            attend (callable): `attend(attn, x, bias, gamma)` to tokens.
        """
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(
                self.branches, x, bias, attend, use_reentrant=False)
        return self.branches(x, bias, attend)

    def branches(self, x, bias, attend):
        x = residual(x, lambda x: self.attention_branch(x, bias, attend),
                     self.drop_path)
        return residual(x, self.ffn_branch, self.drop_path)

    def attention_branch(self, x, bias, attend):
        return normed(self.ln1, x,
                      lambda x: attend(self.attn, x, bias, self.gamma_1))

    def ffn_branch(self, x):
        return normed(self.ln2, x,
                      lambda x: feed_forward(self.ffn, x, self.gamma_2))


@MODELS.register_module()
class StudentViT(Student, BEiTViT):
    """FD's ViT: BEiT's blocks, position only as relative bias.

    Official file `models/vision_transformer.py`; `mmpretrain.BEiTViT` loads
    its weights. Distilled with one bias table for all blocks
    (`use_shared_rel_pos_bias`), then used with one per block
    (`use_rel_pos_bias`): loading copies the shared table into every block,
    and brings all positions of a file to the grid of `img_size`.

    With `out_type='featmap'` it takes images of any size, as detectors and
    segmentors need, and gives a map (B, C, h, w) for each of `out_indices`.

    Args:
        window_size (int): side in patches of windows that the blocks attend
            in. 0 is attention over all patches in every block. It is for
            maps.
        global_blocks (Sequence[int]): blocks that attend over all patches
            nevertheless.
        with_cp (bool): compute blocks again in the backward instead of
            keeping what it needs.

    Raises:
        Refused: if the patch does not divide the image, if there is no
            such block, or if a checkpoint does not fit in every weight that
            it should have.
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
        if img_size % patch_size:
            nearest = img_size // patch_size * patch_size
            raise Refused(
                f'img_size={img_size} is not a multiple of '
                f'patch_size={patch_size}: set backbone.img_size and the size '
                f'of the crops to {nearest} or {nearest + patch_size}')
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            out_type=out_type,
            layer_cfgs=DROP_ONCE,
            **kwargs)
        self.out_indices = self._blocks('out_indices', out_indices)
        self.global_blocks = self._blocks('global_blocks', global_blocks)
        self.window_size = window_size
        if out_type != 'featmap' and window_size:
            raise Refused(f'out_type={out_type!r} with window_size: set '
                          "backbone.out_type='featmap'")
        self.layers = ModuleList(
            ViTBlock(layer, with_cp) for layer in self.layers)

    def _blocks(self, name, indices):
        """Indices from the front; refuses those of no block."""
        indices = [indices] if isinstance(indices, int) else [*indices]
        for index in indices:
            if not -self.num_layers <= index < self.num_layers:
                raise Refused(
                    f'{name}={indices} of a backbone of {self.num_layers} '
                    f'blocks: set backbone.{name} to some of 0 to '
                    f'{self.num_layers - 1}')
        return [index % self.num_layers for index in indices]

    def draw_weights(self):
        # truncated at one standard deviation, as BEiT does
        draw = partial(trunc_normal_, std=.02, a=-.02, b=.02)
        _draw(self, draw, [(layer.attn.proj, layer.ffn.layers[1])
                           for layer in self.layers])
        draw(self.cls_token)
        if self.pos_embed is not None:
            draw(self.pos_embed)

    def forward(self, x):
        """Images (B, 3, img_size, img_size), normalised, to a tuple."""
        if self.out_type == 'featmap' and self.with_cls_token:
            return any_size.forward(self, x)
        _check_size(x, self.img_size[0])
        return super().forward(x)

    def _prepare_relative_position_bias_table(self, state_dict, prefix, *_):
        """Load hook: bring the file's bias to these blocks and this grid.

        A shared table is copied into every block that has its own, and each
        is resampled in geometric sequence. It takes the place of the host's,
        which expands only where `prefix` is empty and resizes with a function
        that SciPy no longer has.
        """
        if self.use_rel_pos_bias and prefix + SHARED + TABLE in state_dict:
            shared = state_dict.pop(prefix + SHARED + TABLE)
            for i in range(self.num_layers):
                state_dict[f'{prefix}layers.{i}.attn.{TABLE}'] = shared.clone()
        _keep_tables(self, state_dict, prefix)
        for name, table in self.named_parameters():
            if name.endswith(TABLE) and prefix + name in state_dict:
                state_dict[prefix + name] = _to_grid(state_dict[prefix + name],
                                                     len(table),
                                                     self.patch_resolution)


class CosineAttention(nn.Module):
    """Swin V2's window attention, fused; positions by log-CPB.

    Of the host's parts, by the host's names (`WindowMSAV2`).

    Raises:
        Refused: if the host's drops scores, as nothing fused does, or has
            no bias of q and v.
    """

    def __init__(self, host):
        super().__init__()
        if host.attn_drop.p or host.q_bias is None:
            raise Refused(
                f'attn_drop={host.attn_drop.p}, qkv_bias='
                f'{host.q_bias is not None}: StudentSwin has attn_drop=0. and '
                'qkv_bias=True; take both out of stage_cfgs')
        self.embed_dims, self.num_heads = host.embed_dims, host.num_heads
        self.window_size = host.window_size
        self.logit_scale = host.logit_scale
        self.q_bias, self.v_bias = host.q_bias, host.v_bias
        for name, table in host.named_buffers():
            self.register_buffer(name, table)
        self.cpb_mlp, self.qkv, self.proj = host.cpb_mlp, host.qkv, host.proj
        self.proj_drop = host.proj_drop

    def bias(self):
        """Of all pairs of a window's tokens, (H, L, L)."""
        table = 16 * self.cpb_mlp(self.relative_coords_table).sigmoid()
        index = self.relative_position_index
        bias = table.flatten(0, 2).t().index_select(1, index.flatten())
        return bias.unflatten(1, index.shape)

    def forward(self, x, mask=None):
        """Windows (n B, L, C) to the same.

        Args:
            mask (Tensor): (n, L, L), of the n windows of an image; None is 0.
        """
        qkv = F.linear(x, self.qkv.weight, attention.q_v_bias(self))
        qkv = qkv.unflatten(2, (3, self.num_heads, -1))
        scale = self.logit_scale.clamp(max=log(100)).exp()
        bias = self.bias()[None]
        if mask is not None:
            bias = bias + mask[:, None]
        qkv = attention.Directions.apply(qkv, scale.flatten())
        return self.proj_drop(self.proj(attention.attention(qkv, bias, 1.)))


class SwinBlock(nn.Module):
    """A block of Swin V2: residual branches that end in norm and drop path.

    Of the host's parts, by the host's names. The host drops before the norm,
    which undoes it: a kept branch loses its factor 1 / (1 - rate), a dropped
    one gives the norm's bias, not nothing.
    """
    # the cuts into windows take a compiler for ever, for any number of images
    branches_to_compile = ('ffn_branch', )

    def __init__(self, host):
        super().__init__()
        self.drop_path = host.attn.drop
        host.attn.drop = host.ffn.dropout_layer = nn.Identity()
        host.attn.w_msa = CosineAttention(host.attn.w_msa)
        self.attn, self.norm1 = host.attn, host.norm1
        self.ffn, self.norm2 = host.ffn, host.norm2
        self.norm3 = host.norm3 if host.extra_norm else nn.Identity()
        self.with_cp = host.with_cp

    def forward(self, x, hw_shape):
        """Tokens (B, L, C) of an (h, w) grid to the same."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(self.branches, x, hw_shape, use_reentrant=False)
        return self.branches(x, hw_shape)

    def branches(self, x, hw_shape):
        x = residual(x, lambda x: self.norm1(self.attn(x, hw_shape)),
                     self.drop_path)
        return self.norm3(residual(x, self.ffn_branch, self.drop_path))

    def ffn_branch(self, x):
        return self.norm2(feed_forward(self.ffn, x))


@MODELS.register_module()
class StudentSwin(Student, SwinTransformerV2):
    """FD's Swin V2: weak residual branches, positions by log-CPB.

    Official file `models/swin_transformer_v2.py`;
    `mmpretrain.SwinTransformerV2` loads its weights. Gives a map
    (B, C, h, w) after the final norm.

    Args:
        img_size (int): side of the images in pixels.
        window_size (int | Sequence[int]): side of the windows in tokens, of
            all stages or of each. No window is larger than its stage's grid:
            14 at 224 pixels makes 14, 14, 14, 7.
        use_shared_rel_pos_bias (bool): one CPB network for all blocks of a
            stage. It is in the weights once per block, so they load with and
            without it.
        pad_small_map (bool): take images of any size and pad their windows,
            as detectors and segmentors need.
        pretrained_window_sizes (Sequence[int]): windows to whose coordinates
            the CPB networks are held, for larger ones to extrapolate. 0, as
            in FD, stretches them.

    Raises:
        Refused: if the windows do not divide the image, or if a checkpoint
            does not fit in every weight that it should have.
    """

    def __init__(self,
                 arch='base',
                 img_size=224,
                 patch_size=4,
                 window_size=14,
                 use_shared_rel_pos_bias=False,
                 pad_small_map=False,
                 pretrained_window_sizes=(0, 0, 0, 0),
                 **kwargs):
        stages = len(arch['depths']) if isinstance(arch, dict) else 4
        if not pad_small_map:
            _check_windows(img_size, patch_size, window_size, stages)
        with RealSchedules():
            super().__init__(
                arch=arch,
                img_size=img_size,
                patch_size=patch_size,
                window_size=_windows(img_size, patch_size, window_size,
                                     stages),
                pad_small_map=pad_small_map,
                pretrained_window_sizes=pretrained_window_sizes,
                **kwargs)
        self.img_size = img_size
        self.pad_small_map = pad_small_map
        self.pretrained_window_sizes = pretrained_window_sizes
        self.use_shared_rel_pos_bias = use_shared_rel_pos_bias
        for stage in self.stages:
            stage.blocks = nn.ModuleList(map(SwinBlock, stage.blocks))
            if use_shared_rel_pos_bias:
                for block in stage.blocks:
                    first = stage.blocks[0].attn.w_msa
                    block.attn.w_msa.cpb_mlp = first.cpb_mlp

    def draw_weights(self):
        blocks = [block for stage in self.stages for block in stage.blocks]
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        for block in blocks:
            nn.init.constant_(block.norm1.weight, 1e-5)
            nn.init.constant_(block.norm2.weight, 1e-5)
            nn.init.constant_(block.attn.w_msa.logit_scale, log(10))
            nn.init.zeros_(block.attn.w_msa.q_bias)
            nn.init.zeros_(block.attn.w_msa.v_bias)
        # The official code truncates at 2, not at 2 deviations: not at all,
        # but for one weight in 2 ** 24 that its formula makes -2.
        draw = partial(nn.init.normal_, std=.02)
        if self.use_abs_pos_embed:
            draw(self.absolute_pos_embed)
        _draw(self, draw, [(block.attn.w_msa.proj, block.ffn.layers[1])
                           for block in blocks])
        self._fill_tables()

    @torch.no_grad()
    def _fill_tables(self):
        """Compute the tables that a build on the meta device left empty."""
        for stage, pretrained in zip(self.stages,
                                     self.pretrained_window_sizes):
            window = stage.blocks[0].attn.w_msa.window_size
            fresh = WindowMSAV2(
                1, window, 1, pretrained_window_size=to_2tuple(pretrained))
            for block in stage.blocks:
                for name, table in fresh.named_buffers():
                    block.attn.w_msa.get_buffer(name).copy_(table)

    def forward(self, x):
        """Images (B, 3, H, W), normalised, to a tuple of maps."""
        if not self.pad_small_map:
            _check_size(x, self.img_size)
        return super().forward(x)

    def get_layer_depth(self, param_name, prefix=''):
        """Layer of a parameter, and how many layers there are.

        Official `optimizer.py`: a merging belongs to the block before it.
        """
        last = sum(self.depths) + 1
        own = param_name.removeprefix(prefix)
        inner = re.match(r'stages\.(\d+)\.(?:downsample|blocks\.(\d+))\.', own)
        if own.startswith('patch_embed.'):
            depth = 0
        elif inner:
            stage, block = inner.groups()
            depth = sum(self.depths[:int(stage)])
            depth += int(block) + 1 if block else 0
        else:  # the final norm, and what is behind the backbone
            depth = last
        return depth, last + 1

    def _delete_reinit_params(self, state_dict, prefix, *_):
        """Load hook in the place of the host's, which only deletes."""
        _keep_tables(self, state_dict, prefix)
        if self.use_shared_rel_pos_bias:
            _check_shared(state_dict, prefix)


@torch.no_grad()
def _draw(module, draw, ends):
    """Fill linear and convolution weights by `draw`, their biases by zero.

    Args:
        ends (list): per block, the layers that write to the residual stream;
            those of the l-th are divided by sqrt(2 l).
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for depth, layers in enumerate(ends, start=1):
        for layer in layers:
            layer.weight.div_(sqrt(2 * depth))


def _keep_tables(module, state_dict, prefix):
    """What follows from grid and windows is the module's, never a file's."""
    for name in list(state_dict):
        if name.startswith(prefix) and name.endswith(checkpoints.TABLES):
            del state_dict[name]
    for name, value in module.state_dict().items():
        if name.endswith(checkpoints.TABLES):
            state_dict[prefix + name] = value


def _to_grid(table, rows, grid):
    """A bias table for `grid`; one of no square grid as it is, to be refused.

    Args:
        rows (int): what it is to have: those of the grid, and some for a cls
            token.
    """
    extra = rows - prod(2 * side - 1 for side in grid)
    side = (isqrt(max(len(table) - extra, 0)) + 1) // 2
    if len(table) == rows or len(table) != (2 * side - 1)**2 + extra:
        return table
    return relative_position.resize(table, (side, side), grid, extra)


def _check_shared(state_dict, prefix):
    network = re.escape(prefix) + (
        r'(stages\.\d+)\.blocks\.\d+\.attn\.w_msa\.(cpb_mlp\..+)')
    shared = {}
    for name, value in state_dict.items():
        found = re.fullmatch(network, name)
        if found and not torch.equal(
                shared.setdefault(found.groups(), value), value):
            raise Refused(
                f'{name} is not that of the block before: the file has one '
                'CPB network per block, set '
                'backbone.use_shared_rel_pos_bias=False')


def _check_size(x, img_size):
    height, width = x.shape[-2:]
    if (height, width) != (img_size, img_size):
        raise Refused(
            f'images of {height} x {width} pixels for a backbone of '
            f'img_size={img_size}: set backbone.img_size or the size of the '
            'crops')


def _windows(img_size, patch_size, window_size, stages):
    """The windows of each stage, none larger than its grid."""
    if isinstance(window_size, int):
        window_size = [window_size] * stages
    return [
        max(1, min(window, img_size // patch_size // 2**stage))
        for stage, window in enumerate(window_size)
    ]


def _check_windows(img_size, patch_size, window_size, stages):
    unit = patch_size * 2**(stages - 1)
    if img_size % unit:
        lower = img_size // unit * unit
        raise Refused(
            f'img_size={img_size} is not a multiple of {unit}, which is '
            f'patch_size={patch_size} doubled from stage to stage: set '
            f'backbone.img_size and the size of the crops to {lower} or '
            f'{lower + unit}')
    grids = [img_size // patch_size // 2**stage for stage in range(stages)]

    def fits(window):
        windows = _windows(img_size, patch_size, window, stages)
        return not any(grid % window for grid, window in zip(grids, windows))

    if not fits(window_size):
        fitting = [window for window in range(2, grids[0] + 1) if fits(window)]
        raise Refused(
            f'window_size={window_size} does not divide the grids {grids} of '
            f'img_size={img_size}: set backbone.window_size to one of '
            f'{fitting}')
