"""ViTs of CLIP, DINO, DeiT, MAE, timm and transformers into mmpretrain's.

Each function takes a state dict as published, name -> tensor, and returns one
for `mmpretrain.VisionTransformer`, in fp32.
"""
from math import isqrt

from mmfd.errors import Refused
from mmfd.weights.rename import FULL, HALF, check_has, rename


def openai_clip_to_mmpretrain(state_dict):
    """OpenAI CLIP's image tower to `mmpretrain.VisionTransformer`.

    Of ViT-B/16 and ViT-L/14 as released (openai/CLIP `clip/model.py`), with
    the text tower or alone, in half precision or fp32. Left out on purpose:
    the text tower and `visual.proj`, which lie behind the features that FD
    distils.

    Raises:
        Refused: if it is not one of CLIP's ViTs, or has keys unknown here.
    """
    return _vit(
        _tower(state_dict), CLIP_NAMES, "OpenAI's CLIP ViT", dtypes=HALF)


def _tower(state_dict):
    """Name an image tower that was saved alone as within its CLIP."""
    if 'class_embedding' not in state_dict:
        return state_dict
    return {f'visual.{key}': value for key, value in state_dict.items()}


# The text tower, what is behind the image tower, and numbers of both
_BESIDE_IMAGES = (
    r'transformer\..*|token_embedding\..*|ln_final\..*|text_projection'
    r'|positional_embedding|logit_scale|input_resolution|context_length'
    r'|vocab_size|attn_mask|visual\.(proj|input_resolution|output_dim)')
_CLIP_BLOCK = r'visual\.transformer\.resblocks\.(\d+)\.'
CLIP_NAMES = {
    r'visual\.class_embedding': 'cls_token',
    r'visual\.positional_embedding': 'pos_embed',
    r'visual\.conv1\.weight': 'patch_embed.projection.weight',
    r'visual\.ln_pre\.(weight|bias)': r'pre_norm.\1',
    r'visual\.ln_post\.(weight|bias)': r'ln1.\1',
    _CLIP_BLOCK + r'ln_([12])\.(weight|bias)': r'layers.\1.ln\2.\3',
    _CLIP_BLOCK + r'attn\.in_proj_(weight|bias)': r'layers.\1.attn.qkv.\2',
    _CLIP_BLOCK + r'attn\.out_proj\.(weight|bias)': r'layers.\1.attn.proj.\2',
    _CLIP_BLOCK + r'mlp\.c_fc\.(weight|bias)': r'layers.\1.ffn.layers.0.0.\2',
    _CLIP_BLOCK + r'mlp\.c_proj\.(weight|bias)': r'layers.\1.ffn.layers.1.\2',
    _BESIDE_IMAGES: None,
}


def open_clip_to_mmpretrain(state_dict):
    """open_clip's image tower to `mmpretrain.VisionTransformer`.

    Of its ViTs of OpenAI's architecture (mlfoundations/open_clip
    `src/open_clip/transformer.py`), in half precision or fp32, with either
    kind of text tower or alone. Left out on purpose: the same as of OpenAI's.

    Raises:
        Refused: if it is not such a ViT, or has keys unknown here.
    """
    return _vit(
        _tower(state_dict), OPEN_CLIP_NAMES, "open_clip's ViT", dtypes=HALF)


OPEN_CLIP_NAMES = CLIP_NAMES | {r'text\..*|logit_bias': None}


def hf_clip_to_mmpretrain(state_dict):
    """transformers' CLIP image tower to `mmpretrain.VisionTransformer`.

    Of `CLIPModel`, `CLIPVisionModel` and `CLIPVisionModelWithProjection`
    (`models/clip/modeling_clip.py`), in half precision or fp32. Left out on
    purpose: the text tower and both projections.

    Raises:
        Refused: if it is not such a ViT, or has keys unknown here.
    """
    return _vit(state_dict, HF_CLIP_NAMES, "transformers' CLIP ViT",
                r'vision_model\.', HALF)


_HF_BESIDE_IMAGES = (
    r'text_model\..*|(text|visual)_projection\.weight|logit_scale'
    r'|embeddings\.position_ids')
_HF_BLOCK = r'encoder\.layers\.(\d+)\.'
HF_CLIP_NAMES = {
    r'embeddings\.class_embedding': 'cls_token',
    r'embeddings\.position_embedding\.weight': 'pos_embed',
    r'embeddings\.patch_embedding\.weight': 'patch_embed.projection.weight',
    r'pre_layrnorm\.(weight|bias)':  # so spelt there
    r'pre_norm.\1',
    r'post_layernorm\.(weight|bias)': r'ln1.\1',
    _HF_BLOCK + r'layer_norm([12])\.(weight|bias)': r'layers.\1.ln\2.\3',
    _HF_BLOCK + r'self_attn\.([qkv])_proj\.(weight|bias)':
    r'layers.\1.attn.qkv.\3/\2',
    _HF_BLOCK + r'self_attn\.out_proj\.(weight|bias)':
    r'layers.\1.attn.proj.\2',
    _HF_BLOCK + r'mlp\.fc1\.(weight|bias)': r'layers.\1.ffn.layers.0.0.\2',
    _HF_BLOCK + r'mlp\.fc2\.(weight|bias)': r'layers.\1.ffn.layers.1.\2',
    _HF_BESIDE_IMAGES: None,
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
                r'(?:vit|deit)\.', HALF)


_HF_LAYER = r'encoder\.layer\.(\d+)\.'
HF_VIT_NAMES = {
    r'embeddings\.cls_token': 'cls_token',
    r'embeddings\.position_embeddings': 'pos_embed',
    r'embeddings\.patch_embeddings\.projection\.(weight|bias)':
    r'patch_embed.projection.\1',
    r'layernorm\.(weight|bias)': r'ln1.\1',
    _HF_LAYER + r'layernorm_before\.(weight|bias)': r'layers.\1.ln1.\2',
    _HF_LAYER + r'layernorm_after\.(weight|bias)': r'layers.\1.ln2.\2',
    _HF_LAYER + r'attention\.attention\.([qkv])\w+\.(weight|bias)':
    r'layers.\1.attn.qkv.\3/\2',
    _HF_LAYER + r'attention\.output\.dense\.(weight|bias)':
    r'layers.\1.attn.proj.\2',
    _HF_LAYER + r'intermediate\.dense\.(weight|bias)':
    r'layers.\1.ffn.layers.0.0.\2',
    _HF_LAYER + r'output\.dense\.(weight|bias)': r'layers.\1.ffn.layers.1.\2',
    r'classifier\.(weight|bias)': r'head.\1',
    r'pooler\.dense\..*|embeddings\.mask_token|decoder\..*': None,
}


def dino_to_mmpretrain(state_dict):
    """DINO's ViT to `mmpretrain.VisionTransformer`.

    As released alone (facebookresearch/dino `vision_transformer.py`; timm has
    the same names), or with the prefixes and the head of a whole training
    checkpoint, of which `convert.find` takes the teacher.

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
    return _vit(state_dict, TIMM_NAMES, "timm's plain ViT", dtypes=HALF)


BLOCK_NAMES = {  # and what is around the blocks; the bias of qkv is apart
    r'(cls_token|pos_embed)': r'\1',
    r'patch_embed\.proj\.(weight|bias)': r'patch_embed.projection.\1',
    r'norm\.(weight|bias)': r'ln1.\1',
    r'blocks\.(\d+)\.norm([12])\.(weight|bias)': r'layers.\1.ln\2.\3',
    r'blocks\.(\d+)\.attn\.(qkv\.weight|proj\.weight|proj\.bias)':
    r'layers.\1.attn.\2',
    r'blocks\.(\d+)\.mlp\.fc1\.(weight|bias)': r'layers.\1.ffn.layers.0.0.\2',
    r'blocks\.(\d+)\.mlp\.fc2\.(weight|bias)': r'layers.\1.ffn.layers.1.\2',
}
VIT_NAMES = BLOCK_NAMES | {
    r'blocks\.(\d+)\.attn\.qkv\.bias': r'layers.\1.attn.qkv.bias',
}
DINO_NAMES = VIT_NAMES | {r'head\.(mlp|last_layer)\..*': None}
DEIT_NAMES = VIT_NAMES | {r'head\.(weight|bias)': r'head.\1'}
MAE_NAMES = VIT_NAMES | {r'mask_token|decoder_.*': None}
TIMM_NAMES = DEIT_NAMES | {r'norm_pre\.(weight|bias)': r'pre_norm.\1'}


def _vit(state_dict, names, network, prefix='', dtypes=FULL, needs=()):
    """Rename; shape cls token and positions as mmpretrain; check the grid."""
    renamed = rename(state_dict, names, network, prefix, dtypes)
    for name in ('cls_token', 'pos_embed', 'ln1.weight', *needs):
        check_has(renamed, name, network)
    positions, channels = (
        renamed[name].numel() for name in ('pos_embed', 'cls_token'))
    tokens = positions // max(channels, 1)
    if positions != channels * (isqrt(max(tokens - 1, 0))**2 + 1):
        raise Refused(f'this is not {network}: {tokens} positions are not a '
                      'cls token and a square grid')
    renamed['cls_token'] = renamed['cls_token'].view(1, 1, channels)
    renamed['pos_embed'] = renamed['pos_embed'].view(1, tokens, channels)
    return renamed
