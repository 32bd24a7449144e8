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
    return _rename(state_dict, DINO_NAMES, "DINO's ViT")


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

# kind -> function from the foreign state dict to the host's
CONVERTERS = {
    'dino': dino_to_mmpretrain,
    'openai-clip': openai_clip_to_mmpretrain,
}


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
    if 'cls_token' not in renamed:
        raise ValueError(f'this is not {what}: it has no cls token')
    return renamed
