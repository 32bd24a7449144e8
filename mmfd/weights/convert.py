"""Foreign weights to host names: pure functions, and one table of them."""
import re
from math import isqrt

import torch

from mmfd.errors import Refused

FULL, HALF = (torch.float32, ), (torch.float32, torch.float16)


def openai_clip_to_mmpretrain(state_dict):
    """OpenAI CLIP's image tower to `mmpretrain.VisionTransformer`.

    Of ViT-B/16 and ViT-L/14 as released (openai/CLIP `clip/model.py`), fp16
    or fp32, to fp32. Left out on purpose: the text tower and `visual.proj`,
    which lie behind the features that FD distils.

    Raises:
        Refused: if it is not one of CLIP's ViTs, or has keys unknown here.
    """
    return _vit(state_dict, CLIP_NAMES, "OpenAI's CLIP ViT", dtypes=HALF)


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


def open_clip_to_mmpretrain(state_dict):
    """open_clip's image tower to `mmpretrain.VisionTransformer`.

    Of its ViTs of OpenAI's architecture (mlfoundations/open_clip
    `src/open_clip/transformer.py`), fp16 or fp32, with either kind of text
    tower, with `module.` as its training writes it. Left out on purpose: as
    of OpenAI's.

    Raises:
        Refused: if it is not such a ViT, or has keys unknown here.
    """
    return _vit(state_dict, OPEN_CLIP_NAMES, "open_clip's ViT", r'module\.',
                HALF)


OPEN_CLIP_NAMES = CLIP_NAMES | {r'text\..*|logit_bias': None}


def hf_clip_to_mmpretrain(state_dict):
    """transformers' CLIP image tower to `mmpretrain.VisionTransformer`.

    Of `CLIPModel`, `CLIPVisionModel` and `CLIPVisionModelWithProjection`
    (`models/clip/modeling_clip.py`), fp16 or fp32. Left out on purpose: the
    text tower and both projections.

    Raises:
        Refused: if it is not such a ViT, or has keys unknown here.
    """
    return _vit(state_dict, HF_CLIP_NAMES, "transformers' CLIP ViT",
                r'vision_model\.', HALF)


HF_CLIP_NAMES = {
    r'embeddings\.class_embedding':
    'cls_token',
    r'embeddings\.position_embedding\.weight':
    'pos_embed',
    r'embeddings\.patch_embedding\.weight':
    'patch_embed.projection.weight',
    r'pre_layrnorm\.(weight|bias)':  # so spelt there
    r'pre_norm.\1',
    r'post_layernorm\.(weight|bias)':
    r'ln1.\1',
    r'encoder\.layers\.(\d+)\.layer_norm([12])\.(weight|bias)':
    r'layers.\1.ln\2.\3',
    r'encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)':
    r'layers.\1.attn.qkv.\3/\2',
    r'encoder\.layers\.(\d+)\.self_attn\.out_proj\.(weight|bias)':
    r'layers.\1.attn.proj.\2',
    r'encoder\.layers\.(\d+)\.mlp\.fc1\.(weight|bias)':
    r'layers.\1.ffn.layers.0.0.\2',
    r'encoder\.layers\.(\d+)\.mlp\.fc2\.(weight|bias)':
    r'layers.\1.ffn.layers.1.\2',
    r'text_model\..*|(text|visual)_projection\.weight|logit_scale'
    r'|embeddings\.position_ids':
    None,
}


def hf_vit_to_mmpretrain(state_dict):
    """transformers' plain ViT to `mmpretrain.VisionTransformer`.

    Of `ViTModel` and `ViTMAEModel`, also below a classifier, which becomes
    `head`, or beside a decoder (`models/vit/modeling_vit.py`,
    `models/vit_mae/modeling_vit_mae.py`). Left out on purpose: the pooler,
    the mask token and the decoder.

    Raises:
        Refused: if it is not such a ViT, or has keys unknown here.
    """
    return _vit(state_dict, HF_VIT_NAMES, "transformers' ViT",
                r'(?:vit|deit)\.')


HF_VIT_NAMES = {
    r'embeddings\.cls_token': 'cls_token',
    r'embeddings\.position_embeddings': 'pos_embed',
    r'embeddings\.patch_embeddings\.projection\.(weight|bias)':
    r'patch_embed.projection.\1',
    r'layernorm\.(weight|bias)': r'ln1.\1',
    r'encoder\.layer\.(\d+)\.layernorm_before\.(weight|bias)':
    r'layers.\1.ln1.\2',
    r'encoder\.layer\.(\d+)\.layernorm_after\.(weight|bias)':
    r'layers.\1.ln2.\2',
    r'encoder\.layer\.(\d+)\.attention\.attention\.([qkv])\w+\.(weight|bias)':
    r'layers.\1.attn.qkv.\3/\2',
    r'encoder\.layer\.(\d+)\.attention\.output\.dense\.(weight|bias)':
    r'layers.\1.attn.proj.\2',
    r'encoder\.layer\.(\d+)\.intermediate\.dense\.(weight|bias)':
    r'layers.\1.ffn.layers.0.0.\2',
    r'encoder\.layer\.(\d+)\.output\.dense\.(weight|bias)':
    r'layers.\1.ffn.layers.1.\2',
    r'classifier\.(weight|bias)': r'head.\1',
    r'pooler\.dense\..*|embeddings\.mask_token|decoder\..*': None,
}


def dino_to_mmpretrain(state_dict):
    """DINO's ViT to `mmpretrain.VisionTransformer`.

    As released alone (facebookresearch/dino `vision_transformer.py`; timm has
    the same names), or with the prefixes and the head of a whole training
    checkpoint, of which `checkpoints.state_dict_of` takes the teacher.

    Raises:
        Refused: if it is not DINO's ViT, or has keys unknown here.
    """
    return _vit(state_dict, DINO_NAMES, "DINO's ViT",
                r'module\.(?:backbone\.)?|backbone\.')


def deit_to_mmpretrain(state_dict):
    """DeiT's ViT with its classifier to `mmpretrain.VisionTransformer`.

    As released, without a distillation token (facebookresearch/deit
    `models.py`). The classifier stays beside it as `head`.

    Raises:
        Refused: if it is not DeiT's ViT, or has keys unknown here.
    """
    return _vit(state_dict, DEIT_NAMES, "DeiT's ViT", needs=['head.weight'])


def mae_to_mmpretrain(state_dict):
    """MAE's encoder to `mmpretrain.VisionTransformer`.

    As pre-trained, alone or with its decoder (facebookresearch/mae
    `models_mae.py`). Left out on purpose: the mask token and the decoder.

    Raises:
        Refused: if it is not MAE's ViT, or has keys unknown here.
    """
    return _vit(state_dict, MAE_NAMES, "MAE's pre-trained ViT")


def timm_to_mmpretrain(state_dict):
    """timm's plain ViT to `mmpretrain.VisionTransformer`.

    Any that has a cls token with a position of its own and ends in a norm of
    all tokens: of `augreg`, DeiT, DINO, MAE, CLIP (timm
    `models/vision_transformer.py`). Its classifier becomes `head`.

    Raises:
        Refused: if it is not such a ViT, or has keys unknown here.
    """
    return _vit(state_dict, TIMM_NAMES, "timm's plain ViT")


VIT_NAMES = {
    r'(cls_token|pos_embed)': r'\1',
    r'patch_embed\.proj\.(weight|bias)': r'patch_embed.projection.\1',
    r'norm\.(weight|bias)': r'ln1.\1',
    r'blocks\.(\d+)\.norm([12])\.(weight|bias)': r'layers.\1.ln\2.\3',
    r'blocks\.(\d+)\.attn\.(qkv|proj)\.(weight|bias)': r'layers.\1.attn.\2.\3',
    r'blocks\.(\d+)\.mlp\.fc1\.(weight|bias)': r'layers.\1.ffn.layers.0.0.\2',
    r'blocks\.(\d+)\.mlp\.fc2\.(weight|bias)': r'layers.\1.ffn.layers.1.\2',
}
DINO_NAMES = VIT_NAMES | {r'head\.(mlp|last_layer)\..*': None}
DEIT_NAMES = VIT_NAMES | {r'head\.(weight|bias)': r'head.\1'}
MAE_NAMES = VIT_NAMES | {r'mask_token|decoder_.*': None}
TIMM_NAMES = DEIT_NAMES | {r'norm_pre\.(weight|bias)': r'pre_norm.\1'}


def swin_to_mmpretrain(state_dict):
    """Swin Transformer (V1) to `mmpretrain.SwinTransformer`.

    As released (microsoft/Swin-Transformer `models/swin_transformer.py`), or
    in timm's names. Left out on purpose: the classifier, and what follows
    from windows and image size (index, attention mask).

    Raises:
        Refused: if it is not a Swin V1, or has keys unknown here.
    """
    return _swin(state_dict, SWIN_NAMES, 'Swin Transformer V1', **V1_MERGING)


def swinv2_to_mmpretrain(state_dict):
    """Swin V2 to `mmpretrain.SwinTransformerV2` and `mmfd.StudentSwin`.

    As released (microsoft/Swin-Transformer `models/swin_transformer_v2.py`),
    in timm's names, or in those of FD's own file, whose blocks may share a
    stage's CPB network: each gets a copy. Left out on purpose: as of V1, and
    the table of coordinates.

    Raises:
        Refused: if it is not a Swin V2, or has keys unknown here.
    """
    return _swin(
        _cpb_per_block(state_dict), SWINV2_NAMES, 'Swin Transformer V2',
        **V2_MERGING)


def esvit_to_mmpretrain(state_dict):
    """EsViT's Swin (V1) to `mmpretrain.SwinTransformer`.

    As in its training checkpoints (microsoft/esvit), of which FD distils the
    student's branch. Left out on purpose: as of Swin V1, and both heads.

    Raises:
        Refused: if it is not EsViT's Swin, or has keys unknown here.
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
# Where the host merges patches, at the end of a stage as Microsoft does or at
# the start of the next as timm does; and what has columns of merged patches.
V1_MERGING = dict(
    at_end=True, merged=('reduction.weight', 'norm.weight', 'norm.bias'))
V2_MERGING = dict(at_end=False, merged=('reduction.weight', ))


def fd_official_to_mmpretrain(state_dict):
    """FD's own checkpoints to what training here saves.

    As SwinTransformer/Feature-Distillation saves them, of ViT or Swin V2. Of
    a distilled network the student (`encoder.`) becomes `backbone.`; left out
    on purpose: the projection (`decoder.`) and the frozen teacher
    (`feature_model.`, with CLIP's text tower). A fine-tuned one becomes an
    `mmpretrain.ImageClassifier`, `backbone.` and `head.fc.`.

    Raises:
        Refused: if it is neither, or has keys unknown here.
    """
    backbone, head = _part(state_dict, 'encoder.'), {}
    if backbone:
        for key in state_dict:
            if not key.startswith(('encoder.', 'decoder.', 'feature_model.')):
                raise Refused('this is not a network distilled by FD, '
                              f'which has no {key!r}')
    else:
        head = _part(state_dict, 'head.')
        if head.keys() != {'weight', 'bias'}:
            raise Refused(
                'this is no network of FD: a distilled one has encoder.*, a '
                'fine-tuned one head.weight and head.bias; it begins with '
                f'{", ".join([*state_dict][:3])}')
        backbone = {
            key: value
            for key, value in state_dict.items() if not key.startswith('head.')
        }
    swin = 'patch_embed.norm.weight' in backbone
    backbone = (_fd_swin if swin else _fd_vit)(backbone)
    head = _rename(head, {r'(weight|bias)': r'head.fc.\1'}, "FD's classifier")
    return head | {f'backbone.{key}': value for key, value in backbone.items()}


def _part(state_dict, prefix):
    return {
        key.removeprefix(prefix): value
        for key, value in state_dict.items() if key.startswith(prefix)
    }


def _fd_vit(state_dict):
    what = "FD's ViT"
    renamed = _rename(state_dict, FD_VIT_NAMES, what)
    for name in ('cls_token', 'layers.0.attn.q_bias', 'layers.0.gamma_1'):
        _check_has(renamed, name, what)
    return renamed


def _fd_swin(state_dict):
    renamed = swinv2_to_mmpretrain(state_dict)
    theirs = [key for key in state_dict if '.cpb_mlp.' in key]
    if theirs:
        raise Refused("this is not FD's Swin V2, which has rpe_mlp in the "
                      f'place of {theirs[0]!r}')
    return renamed


FD_VIT_NAMES = VIT_NAMES | {
    r'blocks\.(\d+)\.gamma_([12])': r'layers.\1.gamma_\2',
    r'blocks\.(\d+)\.attn\.(q_bias|v_bias|relative_position_bias_table)':
    r'layers.\1.attn.\2',
    r'(rel_pos_bias\.relative_position_bias_table)': r'\1',
    r'fc_norm\.(weight|bias)': r'ln2.\1',
    r'.*\.relative_position_index': None,
}

# kind -> function from the foreign state dict to the host's
CONVERTERS = {
    'deit': deit_to_mmpretrain,
    'dino': dino_to_mmpretrain,
    'esvit': esvit_to_mmpretrain,
    'fd-official': fd_official_to_mmpretrain,
    'hf-clip': hf_clip_to_mmpretrain,
    'hf-vit': hf_vit_to_mmpretrain,
    'mae': mae_to_mmpretrain,
    'open-clip': open_clip_to_mmpretrain,
    'openai-clip': openai_clip_to_mmpretrain,
    'swin': swin_to_mmpretrain,
    'swinv2': swinv2_to_mmpretrain,
    'timm': timm_to_mmpretrain,
}
# kind -> the network to take of a training checkpoint that holds two
BRANCHES = dict.fromkeys(CONVERTERS, 'teacher') | {'esvit': 'student'}
# kind -> what its files do not say, and the key of the config that does
UNSAID = dict.fromkeys(
    ('hf-clip', 'open-clip', 'openai-clip', 'timm'),
    "activation and statistics are not in the file. OpenAI's are in "
    'configs/_base_/teachers/clip_*.py; on such a base LAION and most others '
    'need model.teacher.backbone.layer_cfgs.act_cfg.type=GELU, some also '
    'their own model.teacher.normalize')
# kind -> name beside the weights of the one origin that leaves nothing unsaid
ORIGINAL = {'openai-clip': 'input_resolution'}

# name that no table knows -> what kind of network has such a name
STRANGERS = {
    r'visual\.(layer\d|attnpool)\..*':
    'a CLIP ResNet; only ViTs are converted',
    r'(.*\.)?(dist_token|distillation_token|head_dist\..*)':
    'a distilled DeiT with a second token; take the one without',
    r'(.*\.)?reg(ister)?_tokens?':
    'a ViT with register tokens, which mmpretrain.VisionTransformer lacks',
    _BLOCK + r'attn\.(logit_scale|q_bias|(cpb|rpe)_mlp\..*)':
    'a Swin Transformer V2',
    _BLOCK + r'attn\.(relative_position_bias_table|qkv\.bias)':
    'a Swin Transformer V1',
    r'(.*\.)?layers\.\d+\.(blocks|downsample)\..*':
    'a Swin Transformer',
    r'.*(relative_position|rel_pos_bias|\.q_bias).*':
    "a BEiT, or FD's student",
    r'fc_norm\..*':
    'fine-tuned on the mean of its patches; take the '
    'pre-trained file',
    r'.*(\.gamma_?\d|\.ls\d\.gamma|\.lambda_?1|layer_scale).*':
    'a ViT with layer scale, as DeiT III and DINOv2 are',
    r'.*\.mlp\.(w\d+|fc1_[gx])\..*':
    'a ViT with SwiGLU',
    r'.*\.(attn\.[qk]_norm|self_attn\.[qk]_norm)\..*':
    'a ViT that normalises its queries and keys',
    r'attn_pool\..*|head\.(probe|attention)\..*':
    'a ViT that pools with attention, as SigLIP is',
    r'(backbone\.)?layers\.\d+\.(ln\d|ffn\.layers)\..*':
    'already in mm names; tools/export.py takes a backbone out of a model',
}


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


def convert(kind, state_dict):
    """Bring weights of one kind into the host's names.

    Args:
        kind (str): key of `CONVERTERS`.
        state_dict (dict): name -> tensor.

    Raises:
        Refused: if they are of another kind; says of which, if it knows.
    """
    try:
        return _converted(kind, state_dict)
    except ValueError as error:
        others = [other for other in CONVERTERS if _takes(other, state_dict)]
        hint = f'. Kind {" or ".join(others)} takes it' if others else ''
        raise Refused(f'{error}{hint}') from None


def unsaid(kind, state_dict):
    """What weights of a kind leave open, in words; '' if nothing."""
    known = ORIGINAL.get(kind) in state_dict
    return '' if known else UNSAID.get(kind, '')


def _takes(kind, state_dict):
    try:
        return bool(_converted(kind, state_dict))
    except ValueError:
        return False


def _converted(kind, state_dict):
    try:
        return CONVERTERS[kind](state_dict)
    except (RuntimeError, IndexError, TypeError) as error:  # of torch
        raise Refused(f'these are no weights of {kind}: one has a shape '
                      f'that none there has: {error}') from error


def _vit(state_dict, names, what, prefix='', dtypes=FULL, needs=()):
    """`_rename`, and the cls token and the positions in the host's shape."""
    renamed = _rename(state_dict, names, what, prefix, dtypes)
    for name in ('cls_token', 'pos_embed', 'ln1.weight', *needs):
        _check_has(renamed, name, what)
    positions, channels = (
        renamed[name].numel() for name in ('pos_embed', 'cls_token'))
    tokens = positions // max(channels, 1)
    if positions != channels * (isqrt(max(tokens - 1, 0))**2 + 1):
        raise Refused(f'this is not {what}: {tokens} positions are not a '
                      'cls token and a square grid')
    renamed['cls_token'] = renamed['cls_token'].view(1, 1, channels)
    renamed['pos_embed'] = renamed['pos_embed'].view(1, tokens, channels)
    return renamed


def _rename(state_dict, names, what, prefix='', dtypes=FULL):
    """Rename every key by the pattern that matches it whole; None drops it.

    The weights become fp32. Those whose names end in `/q`, `/k` and `/v` are
    joined to one.

    Args:
        names (dict): pattern -> name, tried in turn.
        what (str): what has these names, for messages.
        prefix (str): pattern that a key may begin with.
        dtypes (tuple): in which `what` is published.
    """
    matches = {key: _match(key, names, prefix) for key in state_dict}
    strange = [key for key, found in matches.items() if not found]
    if strange:
        key, kind = _stranger(strange)
        raise Refused(f'this is not {what}, which has no {key!r}{kind}')
    renamed = {}
    for key, (match, name) in matches.items():
        if name is None:
            continue
        name, value = match.expand(name), state_dict[key]
        if name in renamed:
            raise Refused(f'this is not {what}: {key!r} and another key '
                          f'become {name!r}')
        if value.dtype not in dtypes:
            published = ' or '.join(map(str, dtypes))
            raise Refused(
                f'{key!r} is in {value.dtype}, and {what} is published in '
                f'{published}: this copy has lost digits; take the original')
        renamed[name] = value.float()
    return _joined(renamed, what)


def _match(key, names, prefix):
    """The first row that fits: its match and its name; None if none does."""
    for pattern, name in names.items():
        match = re.fullmatch(f'(?:{prefix})?(?:{pattern})', key)
        if match:
            return match, name


def _stranger(keys):
    """Of several unknown names the most telling one, and what it tells."""
    for pattern, kind in STRANGERS.items():
        for key in keys:
            if re.fullmatch(pattern, key):
                return key, f': it is {kind}'
    return keys[0], ''


def _joined(weights, what):
    """Join query, key and value to what the host's attention takes."""
    stems = {name[:-2] for name in weights if name[-2:] in ('/q', '/k', '/v')}
    for stem in sorted(stems):
        parts = [weights.pop(f'{stem}/{part}', None) for part in 'qkv']
        if any(part is None for part in parts):
            raise Refused(f'this is not {what}: of query, key and value '
                          f'one lacks for {stem!r}')
        weights[stem] = torch.cat(parts)
    return weights


def _check_has(renamed, name, what):
    if name not in renamed:
        raise Refused(f'this is not {what}: nothing in it becomes {name!r}')
