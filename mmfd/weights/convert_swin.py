"""Swin Transformers, V1 and V2, into mmpretrain's names and order.

Each function takes a state dict as published, name -> tensor, and returns one
in fp32.
"""
import re

from mmfd.weights.rename import check_has, rename


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
    copy. Left out on purpose: the same as of V1,
    and the table of relative coordinates.

    Raises:
        Refused: if it is not a Swin V2, or has keys unknown here.
    """
    return _swin(
        _cpb_per_block(state_dict), SWINV2_NAMES, 'Swin Transformer V2',
        **V2_MERGING)


def esvit_to_mmpretrain(state_dict):
    """EsViT's Swin (V1) to `mmpretrain.SwinTransformer`.

    As in its training checkpoints (microsoft/esvit), of which FD distils the
    student's branch. Left out on purpose: the same as of Swin
    V1, and both heads.

    Raises:
        Refused: if it is not EsViT's Swin, or has keys unknown here.
    """
    state_dict = {
        key.removeprefix('module.'): value
        for key, value in state_dict.items()
    }
    return _swin(state_dict, ESVIT_NAMES, "EsViT's Swin", **V1_MERGING)


_BLOCK = r'layers\.(\d+)\.blocks\.(\d+)\.'
_MM_BLOCK = r'stages.\1.blocks.\2.'
_BOTH_SWINS = {
    r'absolute_pos_embed': 'absolute_pos_embed',
    r'patch_embed\.proj\.(weight|bias)': r'patch_embed.projection.\1',
    r'patch_embed\.norm\.(weight|bias)': r'patch_embed.norm.\1',
    _BLOCK + r'norm([12])\.(weight|bias)': _MM_BLOCK + r'norm\3.\4',
    _BLOCK + r'attn\.(qkv\.weight|proj\.weight|proj\.bias)':
    _MM_BLOCK + r'attn.w_msa.\3',
    _BLOCK + r'mlp\.fc1\.(weight|bias)': _MM_BLOCK + r'ffn.layers.0.0.\3',
    _BLOCK + r'mlp\.fc2\.(weight|bias)': _MM_BLOCK + r'ffn.layers.1.\3',
    r'layers\.(\d+)\.downsample\.(reduction\.weight|norm\.(?:weight|bias))':
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
    r'.*\.relative_coords_table': None,
}
# Whether mmpretrain merges patches at the end of a stage, as Microsoft does,
# or at the start of the next, as timm does; and the weights whose last axis is
# of four merged patches
V1_MERGING = dict(
    at_end=True, merged=('reduction.weight', 'norm.weight', 'norm.bias'))
V2_MERGING = dict(at_end=False, merged=('reduction.weight', ))


def _swin(state_dict, names, network, at_end, merged):
    """Rename; count the mergings and order their columns as mmpretrain."""
    renamed = rename(state_dict, names, network)
    for name in ('patch_embed.projection.weight',
                 'stages.0.blocks.0.norm1.weight', 'norm.weight'):
        check_has(renamed, name, network)
    last = max(int(k.split('.')[1]) for k in renamed if k.startswith('stages'))
    theirs_at_end = 'layers.0.downsample.reduction.weight' in state_dict
    weights = {}
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
        shared = re.fullmatch(r'(layers\.\d+\.)rel_pos_bias\.(rpe_mlp\..+)',
                              key)
        if shared:
            blocks = re.compile(re.escape(shared[1]) + r'blocks\.\d+\.')
            for block in {m[0] for m in map(blocks.match, state_dict) if m}:
                weights[f'{block}attn.{shared[2]}'] = value
        else:
            weights[key] = value
    return weights
