"""The Swin V2 student: the host's with FD's initial weights and blocks."""
import re
from functools import partial
from math import log

import torch
from mmpretrain.models import SwinTransformerV2
from mmpretrain.models.utils import WindowMSAV2, to_2tuple
from torch import nn

from mmfd.errors import Refused
from mmfd.fast.blocks import SwinBlock
from mmfd.fast.unfold import unfold_at_once
from mmfd.hosts.lookup import check_methods
from mmfd.networks import image_size, initial_weights, relative_position
from mmfd.networks.block_indices import from_the_first
from mmfd.registry import MODELS
from mmfd.weights.meta_device import LinspaceOnCPU


@MODELS.register_module()
class StudentSwin(SwinTransformerV2):
    """FD's Swin V2: residual branches that start near zero; log-CPB.

    Official file `models/swin_transformer_v2.py`;
    `mmpretrain.SwinTransformerV2` loads its weights. Returns maps
    (B, C, h, w), the last one after the final norm. (Log-CPB: a small network
    computes the relative position bias from log-spaced coordinates.)

    Args:
        img_size (int): side of the images in pixels.
        window_size (int | Sequence[int]): side of the windows in tokens, of
            all stages or of each. A window larger than its stage's grid is
            cut to it: 14 at 224 pixels makes 14, 14, 14, 7.
        use_shared_rel_pos_bias (bool): one CPB network for all blocks of a
            stage. State dicts hold it once per block, so weights load with
            and without it.
        pad_small_map (bool): take images of any size and pad the windows, as
            detectors and segmentors need.
        pretrained_window_sizes (Sequence[int]): of each stage, the window
            whose coordinates the CPB network was trained on: it extrapolates
            to a larger one. 0, as in FD: coordinates are scaled to the window
            at hand.
        test_window_size (int | Sequence[int]): side of the windows in
            evaluation, of all stages or of each; the coordinates stay those of
            training. No grid cuts it: images may then be larger. None: as in
            training.
        out_indices (int | Sequence[int]): stages whose maps are returned; -1
            is the last one.

    Raises:
        Refused: if an index is that of no stage, if the windows do not divide
            the image, or if a checkpoint does not fit in every weight that it
            should have.
    """

    def __init__(self,
                 arch='base',
                 img_size=224,
                 patch_size=4,
                 window_size=14,
                 use_shared_rel_pos_bias=False,
                 pad_small_map=False,
                 pretrained_window_sizes=(0, 0, 0, 0),
                 test_window_size=None,
                 out_indices=-1,
                 **kwargs):
        stages = len(arch['depths']) if isinstance(arch, dict) else 4
        windows = windows_of(img_size, window_size, patch_size, stages)
        test_windows = windows if test_window_size is None else _of_stages(
            test_window_size, stages, 'test_window_size')
        if not pad_small_map:
            _check_windows(img_size, patch_size, window_size, stages)
            if test_window_size is not None:
                _check_windows(img_size, patch_size, test_window_size, stages,
                               'test_window_size')
        if kwargs.get('frozen_stages', -1) >= stages:
            raise Refused(f'frozen_stages={kwargs["frozen_stages"]} of a '
                          f'backbone of stages 0 to {stages - 1}')
        check_methods(SwinTransformerV2, '_delete_reinit_params')
        with LinspaceOnCPU():
            super().__init__(
                arch=arch,
                img_size=img_size,
                patch_size=patch_size,
                window_size=windows,
                pad_small_map=pad_small_map,
                pretrained_window_sizes=pretrained_window_sizes,
                out_indices=from_the_first('out_indices', out_indices, stages,
                                           'stages'),
                **kwargs)
        unfold_at_once(self)
        self.img_size = img_size
        self.pad_small_map = pad_small_map
        self.pretrained_window_sizes = pretrained_window_sizes
        self.use_shared_rel_pos_bias = use_shared_rel_pos_bias
        self.test_window_sizes = test_windows
        for stage, window, pretrained in zip(self.stages, windows,
                                             pretrained_window_sizes):
            stage.blocks = nn.ModuleList(
                SwinBlock(block, pretrained or window)
                for block in stage.blocks)
            if use_shared_rel_pos_bias:
                for block in stage.blocks:
                    first = stage.blocks[0].attn.w_msa
                    block.attn.w_msa.cpb_mlp = first.cpb_mlp

    def init_weights(self):
        """Draw FD's initial weights, then load `init_cfg` if it is set."""
        blocks = [block for stage in self.stages for block in stage.blocks]
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        for block in blocks:
            nn.init.constant_(block.norm1.weight, 1e-5)
            nn.init.constant_(block.norm2.weight, 1e-5)
            nn.init.constant_(block.attn.w_msa.logit_scale, log(10))
            if block.attn.w_msa.q_bias is not None:
                nn.init.zeros_(block.attn.w_msa.q_bias)
                nn.init.zeros_(block.attn.w_msa.v_bias)
        # The official code truncates at +-2, not at two deviations: not at
        # all, but for one weight in 2 ** 24, which its formula makes -2.
        normal = partial(nn.init.normal_, std=.02)
        if self.use_abs_pos_embed:
            normal(self.absolute_pos_embed)
        initial_weights.draw(self, normal,
                             [(block.attn.w_msa.proj, block.ffn.layers[1])
                              for block in blocks])
        self._compute_tables()
        initial_weights.load_init_cfg(self)

    @torch.no_grad()
    def _compute_tables(self):
        """Fill the tables that a build on the meta device left empty."""
        for stage, window, pretrained in zip(self.stages, self.window_sizes,
                                             self.pretrained_window_sizes):
            computed = WindowMSAV2(
                1,
                to_2tuple(window),
                1,
                pretrained_window_size=to_2tuple(pretrained))
            for block in stage.blocks:
                for name, table in computed.named_buffers():
                    block.attn.w_msa.get_buffer(name).copy_(table)

    def train(self, mode=True):
        super().train(mode)
        windows = self.window_sizes if mode else self.test_window_sizes
        for stage, window in zip(self.stages, windows):
            for block in stage.blocks:
                block.set_window(window)
        return self  # the host's returns None

    def forward(self, x):
        """Normalised images (B, 3, H, W) to a tuple of maps (B, C, h, w)."""
        if not self.pad_small_map:
            image_size.check_equal(x, self.img_size)
        return super().forward(x)

    def get_layer_depth(self, param_name, prefix=''):
        """(layer of a parameter, number of layers), for layer decay.

        Official `optimizer.py`: patch merging belongs to the block before it.
        """
        last = sum(self.depths) + 1
        name = param_name.removeprefix(prefix)
        inner = re.match(r'stages\.(\d+)\.(?:downsample|blocks\.(\d+))\.',
                         name)
        if name.startswith('patch_embed.'):
            depth = 0
        elif inner:
            stage, block = inner.groups()
            depth = sum(self.depths[:int(stage)])
            depth += int(block) + 1 if block else 0
        else:  # the final norm, and what follows the backbone
            depth = last
        return depth, last + 1

    def _delete_reinit_params(self, state_dict, prefix, *_):
        """Load hook; it replaces the host's, which deletes the tables."""
        relative_position.keep_derived_buffers(self, state_dict, prefix)
        if self.use_shared_rel_pos_bias:
            _check_shared(state_dict, prefix)


def _check_shared(state_dict, prefix):
    """Refuse a file in which the blocks of a stage have own CPB networks."""
    network = re.escape(prefix) + (
        r'(stages\.\d+)\.blocks\.\d+\.attn\.w_msa\.(cpb_mlp\..+)')
    first = {}  # (stage, parameter) -> value
    for name, value in state_dict.items():
        match = re.fullmatch(network, name)
        if match and not torch.equal(
                first.setdefault(match.groups(), value), value):
            raise Refused(
                f'{name} differs from that of the block before: the file has '
                'one CPB network per block, set '
                'backbone.use_shared_rel_pos_bias=False')


def _of_stages(window_size, stages, name='window_size'):
    """The window of each stage, from one number or from one for each."""
    if isinstance(window_size, int):
        window_size = [window_size] * stages
    if len(window_size) != stages:
        raise Refused(f'{name}={window_size} for {stages} stages: set '
                      f'backbone.{name} to one number or to one for each')
    return [*window_size]


def windows_of(img_size, window_size, patch_size=4, stages=4):
    """The window of each stage in tokens, none larger than its grid.

    Args:
        img_size, window_size, patch_size (int): as of `StudentSwin`.
        stages (int): how many.
    """
    return [
        max(1, min(window, img_size // patch_size // 2**stage))
        for stage, window in enumerate(_of_stages(window_size, stages))
    ]


def _check_windows(img_size,
                   patch_size,
                   window_size,
                   stages,
                   name='window_size'):
    """Refuse windows that do not divide the grid of their stage."""
    unit = patch_size * 2**(stages - 1)
    image_size.check_multiple(
        img_size, unit, f'{unit}, which is patch_size={patch_size} doubled '
        'from stage to stage')
    grids = [img_size // patch_size // 2**stage for stage in range(stages)]

    def fits(window):
        windows = windows_of(img_size, window, patch_size, stages)
        return not any(grid % window for grid, window in zip(grids, windows))

    if not fits(window_size):
        fitting = [window for window in range(2, grids[0] + 1) if fits(window)]
        raise Refused(f'{name}={window_size} does not divide the grids '
                      f'{grids} of img_size={img_size}: set backbone.{name} '
                      f'to one of {fitting}')
