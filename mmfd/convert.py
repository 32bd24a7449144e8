"""Foreign weights to host names: pure functions, and one table of them."""
import re


def openai_clip_to_mmpretrain(state_dict):
    """OpenAI CLIP's image tower to `mmpretrain.VisionTransformer`.

    Of ViT-B/16 and ViT-L/14 as released (openai/CLIP `clip/model.py`), fp16
    or fp32, to fp32. Left out on purpose: the text tower and `visual.proj`,
    which lie behind the features that FD distils.

    Raises:
        ValueError: if it is not one of CLIP's ViTs, or has keys unknown here.
    """
    if any(k.startswith('visual.layer1.') for k in state_dict):
        raise ValueError('this is a CLIP ResNet; only its ViTs are converted')
    renamed = _rename(state_dict, CLIP_NAMES, "OpenAI's CLIP ViT")
    _check_has(renamed, 'cls_token', "OpenAI's CLIP ViT")
    renamed['cls_token'] = renamed['cls_token'].view(1, 1, -1)
    renamed['pos_embed'] = renamed['pos_embed'][None]
    return renamed


CLIP_NAMES = {
    r'visual\.class_embedding':
    'cls_token',
    r'visual\.positional_embedding':
    'pos_embed',
    r'visual\.conv1\.weight':
    'patch_embed.projection.weight',
    r'visual\.ln_pre\.(weight|bias)':
    r'pre_norm.\1',
    r'visual\.ln_post\.(weight|bias)':
    r'ln1.\1',
    r'visual\.transformer\.resblocks\.(\d+)\.ln_([12])\.(weight|bias)':
    r'layers.\1.ln\2.\3',
    r'visual\.transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)':
    r'layers.\1.attn.qkv.\2',
    r'visual\.transformer\.resblocks\.(\d+)\.attn\.out_proj\.(weight|bias)':
    r'layers.\1.attn.proj.\2',
    r'visual\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(weight|bias)':
    r'layers.\1.ffn.layers.0.0.\2',
    r'visual\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(weight|bias)':
    r'layers.\1.ffn.layers.1.\2',
    r'transformer\..*|token_embedding\..*|ln_final\..*|text_projection'
    r'|positional_embedding|logit_scale|input_resolution|context_length'
    r'|vocab_size|attn_mask|visual\.(proj|input_resolution|output_dim)':
    None,
}


def dino_to_mmpretrain(state_dict):
    """DINO's ViT to `mmpretrain.VisionTransformer`.

    As released alone (facebookresearch/dino `vision_transformer.py`; timm has
    the same names), or with the prefixes and the head of a whole training
    checkpoint, of which `checkpoints.state_dict_of` takes the teacher.

    Raises:
        ValueError: if it is not DINO's ViT, or has keys unknown here.
    """
    state_dict = {
        re.sub(r'^(module\.)?(backbone\.)?', '', key): value
        for key, value in state_dict.items()
    }
    renamed = _rename(state_dict, DINO_NAMES, "DINO's ViT")
    _check_has(renamed, 'cls_token', "DINO's ViT")
    return renamed


DINO_NAMES = {
    r'(cls_token|pos_embed)': r'\1',
    r'patch_embed\.proj\.(weight|bias)': r'patch_embed.projection.\1',
    r'norm\.(weight|bias)': r'ln1.\1',
    r'blocks\.(\d+)\.norm([12])\.(weight|bias)': r'layers.\1.ln\2.\3',
    r'blocks\.(\d+)\.attn\.(qkv|proj)\.(weight|bias)': r'layers.\1.attn.\2.\3',
    r'blocks\.(\d+)\.mlp\.fc1\.(weight|bias)': r'layers.\1.ffn.layers.0.0.\2',
    r'blocks\.(\d+)\.mlp\.fc2\.(weight|bias)': r'layers.\1.ffn.layers.1.\2',
    r'head\.(mlp|last_layer)\..*': None,
}


def swin_to_mmpretrain(state_dict):
    """Swin Transformer (V1) to `mmpretrain.SwinTransformer`.

    As released (microsoft/Swin-Transformer `models/swin_transformer.py`), or
    in timm's names. Left out on purpose: the classifier, and what follows
    from windows and image size (index, attention mask).

    Raises:
        ValueError: if it is not a Swin V1, or has keys unknown here.
    """
    return _swin(state_dict, SWIN_NAMES, 'Swin Transformer V1', **V1_MERGING)


def swinv2_to_mmpretrain(state_dict):
    """Swin V2 to `mmpretrain.SwinTransformerV2` and `mmfd.StudentSwin`.

    As released (microsoft/Swin-Transformer `models/swin_transformer_v2.py`),
    in timm's names, or in those of FD's own file, whose blocks may share a
    stage's CPB network: each gets a copy. Left out on purpose: as of V1, and
    the table of coordinates.

    Raises:
        ValueError: if it is not a Swin V2, or has keys unknown here.
    """
    return _swin(
        _cpb_per_block(state_dict), SWINV2_NAMES, 'Swin Transformer V2',
        **V2_MERGING)


def esvit_to_mmpretrain(state_dict):
    """EsViT's Swin (V1) to `mmpretrain.SwinTransformer`.

    As in its training checkpoints (microsoft/esvit), of which FD distils the
    student's branch. Left out on purpose: as of Swin V1, and both heads.

    Raises:
        ValueError: if it is not EsViT's Swin, or has keys unknown here.
    """
    state_dict = {
        key.removeprefix('module.'): value
        for key, value in state_dict.items()
    }
    return _swin(state_dict, ESVIT_NAMES, "EsViT's Swin", **V1_MERGING)


_BLOCK = r'layers\.(\d+)\.blocks\.(\d+)\.'
_HOST_BLOCK = r'stages.\1.blocks.\2.'
_BOTH_SWINS = {
    r'absolute_pos_embed': 'absolute_pos_embed',
    r'patch_embed\.proj\.(weight|bias)': r'patch_embed.projection.\1',
    r'patch_embed\.norm\.(weight|bias)': r'patch_embed.norm.\1',
    _BLOCK + r'norm([12])\.(weight|bias)': _HOST_BLOCK + r'norm\3.\4',
    _BLOCK + r'attn\.(qkv\.weight|proj\.weight|proj\.bias)':
    _HOST_BLOCK + r'attn.w_msa.\3',
    _BLOCK + r'mlp\.fc1\.(weight|bias)': _HOST_BLOCK + r'ffn.layers.0.0.\3',
    _BLOCK + r'mlp\.fc2\.(weight|bias)': _HOST_BLOCK + r'ffn.layers.1.\3',
    r'layers\.(\d+)\.downsample\.(reduction\.weight|norm\.(?:weight|bias))':
    r'stages.\1.downsample.\2',
    r'norm\.(weight|bias)': r'norm.\1',
    r'head\..*|.*\.(relative_position_index|attn_mask)': None,
}
SWIN_NAMES = _BOTH_SWINS | {
    _BLOCK + r'attn\.(qkv\.bias|relative_position_bias_table)':
    _HOST_BLOCK + r'attn.w_msa.\3',
}
ESVIT_NAMES = SWIN_NAMES | {r'head_dense\..*': None}
SWINV2_NAMES = _BOTH_SWINS | {
    _BLOCK + r'attn\.(q_bias|v_bias|logit_scale)':
    _HOST_BLOCK + r'attn.w_msa.\3',
    _BLOCK + r'attn\.(?:cpb|rpe)_mlp\.(0\.weight|0\.bias|2\.weight)':
    _HOST_BLOCK + r'attn.w_msa.cpb_mlp.\3',
    _BLOCK + r'enorm\.(weight|bias)':
    _HOST_BLOCK + r'norm3.\3',
    r'.*\.relative_coords_table':
    None,
}
# Where the host merges patches: at the end of a stage, as Microsoft does, or at
# the start of the next, as timm does; and what has a column per merged channel.
V1_MERGING = dict(
    at_end=True, merged=('reduction.weight', 'norm.weight', 'norm.bias'))
V2_MERGING = dict(at_end=False, merged=('reduction.weight', ))

# kind -> function from the foreign state dict to the host's
CONVERTERS = {
    'dino': dino_to_mmpretrain,
    'esvit': esvit_to_mmpretrain,
    'openai-clip': openai_clip_to_mmpretrain,
    'swin': swin_to_mmpretrain,
    'swinv2': swinv2_to_mmpretrain,
}
# kind -> the network to take of a training checkpoint that holds two
BRANCHES = dict.fromkeys(CONVERTERS, 'teacher') | {'esvit': 'student'}


def _swin(state_dict, names, what, at_end, merged):
    """Rename, count the mergings as the host does, reorder their columns."""
    renamed = _rename(state_dict, names, what)
    for name in ('patch_embed.projection.weight',
                 'stages.0.blocks.0.norm1.weight', 'norm.weight'):
        _check_has(renamed, name, what)
    last = max(int(k.split('.')[1]) for k in renamed if k.startswith('stages'))
    theirs_at_end = 'layers.0.downsample.reduction.weight' in state_dict
    weights = {}
    for key, value in renamed.items():
        merging = re.fullmatch(r'stages\.(\d+)\.downsample\.(.+)', key)
        if merging:
            stage = int(merging[1]) + theirs_at_end - at_end
            key = f'stages.{stage}.downsample.{merging[2]}'
            if merging[2] in merged:
                value = _unfolded(value)
        weights[re.sub(r'^norm\.', f'norm{last}.', key)] = value
    return weights


def _unfolded(value):
    """Reorder what is per column of four patches, last axis 4 C.

    Theirs are the patches' channels one after the other, patches (row,
    column) 00 10 01 11; the host's the patches 00 01 10 11 of each channel.
    """
    patches = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return patches.transpose(-1, -2).flatten(-2)


def _cpb_per_block(state_dict):
    """Copy what the blocks of a stage share into each of them."""
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


def _rename(state_dict, names, what):
    """Rename every key by the pattern that matches it whole; None drops it.

    The weights become fp32.
    """
    renamed = {}
    for key, value in state_dict.items():
        for pattern, name in names.items():
            match = re.fullmatch(pattern, key)
            if match:
                break
        else:
            raise ValueError(f'this is not {what}, which has no {key!r}')
        if name:
            renamed[match.expand(name)] = value.float()
    return renamed


def _check_has(renamed, name, what):
    if name not in renamed:
        raise ValueError(f'this is not {what}: nothing in it becomes {name!r}')
