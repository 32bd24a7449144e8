"""Swin Transformers, V1 and V2, into mmpretrain's names and order.

Each function takes a state dict as published, name -> tensor, and returns one
in fp32.
"""
import re

import torch

from mmfd.errors import Refused
from mmfd.fast.cosine_attention import log_coordinates
from mmfd.weights.rename import HALF, Renamed, check_has, rename


def swin_to_mmpretrain(state_dict):
    """Swin Transformer (V1) to `mmpretrain.SwinTransformer`.

    As released (microsoft/Swin-Transformer `models/swin_transformer.py`), or
    in timm's names. Left out on purpose: the classifier, and what follows
    from windows and image size (position index, attention mask).

    Raises:
        Refused: if it is not a Swin V1, or has keys unknown here.
    """
    return _swin(state_dict, SWIN_NAMES, 'Swin Transformer V1', **V1_MERGING)


def swinv2_to_mmpretrain(state_dict):
    """Swin V2 to `mmpretrain.SwinTransformerV2` and `mmfd.StudentSwin`.

    As released (microsoft/Swin-Transformer `models/swin_transformer_v2.py`),
    in timm's names, or in those of FD's own file, where the blocks of a stage
    may share the network of its continuous position bias (CPB): each gets a
    copy. Left out on purpose: the same as of V1, and tables of relative
    coordinates that are those of their window. Others stay, of a network
    that was pretrained on smaller windows: loading compares them.

    Raises:
        Refused: if it is not a Swin V2, or has keys unknown here, or
            coordinates that are not logarithmic.
    """
    for key, value in state_dict.items():
        if key.endswith('.attn.k_bias') and value.count_nonzero():
            raise Refused(f'this is not Swin Transformer V2, which has no '
                          f'{key!r} but zeros')
    weights = _swin(
        _cpb_per_block(state_dict), SWINV2_NAMES, 'Swin Transformer V2',
        **V2_MERGING)
    for name in [name for name in weights if name.endswith(COORDINATES)]:
        if _pretrained_window(name, weights[name]) is None:
            del weights[name]
    return weights


def esvit_to_mmpretrain(state_dict):
    """EsViT's Swin (V1) to `mmpretrain.SwinTransformer`.

    As in its training checkpoints (microsoft/esvit), of which FD distils the
    student's branch. Left out on purpose: the same as of Swin
    V1, and both heads.

    Raises:
        Refused: if it is not EsViT's Swin, or has keys unknown here.
    """
    return _swin(state_dict, ESVIT_NAMES, "EsViT's Swin", **V1_MERGING)


ALIKE = 5e-3  # coordinates up to 1.1 that differ less, were rounded
COORDINATES = '.relative_coords_table'
_BLOCK = r'layers\.(\d{1,2})\.blocks\.(\d{1,3})\.'
_MM_BLOCK = r'stages.\1.blocks.\2.'
_MERGED = r'layers\.(\d{1,2})\.downsample\.'
_BOTH_SWINS = {
    r'absolute_pos_embed': 'absolute_pos_embed',
    r'patch_embed\.proj\.(weight|bias)': r'patch_embed.projection.\1',
    r'patch_embed\.norm\.(weight|bias)': r'patch_embed.norm.\1',
    _BLOCK + r'norm([12])\.(weight|bias)': _MM_BLOCK + r'norm\3.\4',
    _BLOCK + r'attn\.(qkv\.weight|proj\.weight|proj\.bias)':
    _MM_BLOCK + r'attn.w_msa.\3',
    _BLOCK + r'mlp\.fc1\.(weight|bias)': _MM_BLOCK + r'ffn.layers.0.0.\3',
    _BLOCK + r'mlp\.fc2\.(weight|bias)': _MM_BLOCK + r'ffn.layers.1.\3',
    _MERGED + r'(reduction\.weight|norm\.(?:weight|bias))':
    r'stages.\1.downsample.\2',
    r'norm\.(weight|bias)': r'norm.\1',
    r'head\..*|.*\.(relative_position_index|attn_mask)': None,
}
SWIN_NAMES = _BOTH_SWINS | {
    _BLOCK + r'attn\.(qkv\.bias|relative_position_bias_table)':
    _MM_BLOCK + r'attn.w_msa.\3',
}
ESVIT_NAMES = SWIN_NAMES | {r'head_dense\..*': None}
SWINV2_NAMES = _BOTH_SWINS | {
    _BLOCK + r'attn\.(q_bias|v_bias|logit_scale)':
    _MM_BLOCK + r'attn.w_msa.\3',
    _BLOCK + r'attn\.(?:cpb|rpe)_mlp\.(0\.weight|0\.bias|2\.weight)':
    _MM_BLOCK + r'attn.w_msa.cpb_mlp.\3',
    _BLOCK + r'enorm\.(weight|bias)': _MM_BLOCK + r'norm3.\3',
    _BLOCK + r'attn\.(relative_coords_table)': _MM_BLOCK + r'attn.w_msa.\3',
    # shared, of which each block has a copy; zeros
    r'.*\.(relative_coords_table|attn\.k_bias)': None,
}
# Whether mmpretrain merges patches at the end of a stage, as Microsoft does,
# or at the start of the next, as timm does; and the weights whose last axis is
# of four merged patches
V1_MERGING = dict(
    at_end=True, merged=('reduction.weight', 'norm.weight', 'norm.bias'))
V2_MERGING = dict(at_end=False, merged=('reduction.weight', ))


def _swin(state_dict, names, network, at_end, merged):
    """Rename; count the mergings and order their columns as mmpretrain."""
    renamed = rename(state_dict, names, network, dtypes=HALF)
    for name in ('patch_embed.projection.weight',
                 'stages.0.blocks.0.norm1.weight', 'norm.weight'):
        check_has(renamed, name, network)
    last = max(int(k.split('.')[1]) for k in renamed if k.startswith('stages'))
    theirs_at_end = 'layers.0.downsample.reduction.weight' in state_dict
    weights = Renamed(left_out=renamed.left_out)
    for key, value in renamed.items():
        merging = re.fullmatch(r'stages\.(\d+)\.downsample\.(.+)', key)
        if merging:
            stage = int(merging[1]) + theirs_at_end - at_end
            key = f'stages.{stage}.downsample.{merging[2]}'
            if merging[2] in merged:
                value = _by_channel(value)
        weights[re.sub(r'^norm\.', f'norm{last}.', key)] = value
    return weights


def _by_channel(value):
    """Order the last axis (4 C), of four merged patches, as mmpretrain does.

    Others have the C channels of each patch, patches (row, column) 00 10 01
    11; mmpretrain has the four patches 00 01 10 11 of each channel.
    """
    patches = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return patches.transpose(-1, -2).flatten(-2)


def _cpb_per_block(state_dict):
    """Copy the CPB network that the blocks of a stage share to each block."""
    weights = {}
    for key, value in state_dict.items():
        shared = re.fullmatch(
            r'(layers\.\d+\.)rel_pos_bias\.'
            r'(rpe_mlp\..+|relative_coords_table)', key)
        if shared:
            blocks = re.compile(re.escape(shared[1]) + r'blocks\.\d+\.')
            for block in {m[0] for m in map(blocks.match, state_dict) if m}:
                weights[f'{block}attn.{shared[2]}'] = value
        else:
            weights[key] = value
    return weights


def _pretrained_window(name, table):
    """The window that a table of coordinates is scaled to.

    Returns:
        int: its side; None if it is the window of the table itself.

    Raises:
        Refused: if the coordinates are no logarithms of any.
    """
    if table.dim() != 4 or len(table) != 1 or table.shape[3] != 2:
        raise Refused(f'{name!r} has the shape {[*table.shape]}, no table of '
                      'relative coordinates')
    window = [(side + 1) // 2 for side in table.shape[1:3]]
    if min(window) == 1:  # no offsets, or none on one axis
        return None
    for side in (None, *range(2, 65)):
        scaled = window if side is None else (side, side)
        if torch.allclose(table, log_coordinates(window, scaled), atol=ALIKE):
            return side
    raise Refused(
        f'{name!r} is not what Swin V2 here computes: its coordinates are not '
        "logarithmic, as with the official DEV.RCT_TYPE='linear', and its "
        'bias would be another')
