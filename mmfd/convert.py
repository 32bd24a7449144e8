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
    state_dict = {
        k: v
        for k, v in state_dict.items() if not re.match(CLIP_LEFT_OUT, k)
    }
    if any(k.startswith('visual.layer1.') for k in state_dict):
        raise ValueError('this is a CLIP ResNet; only its ViTs are converted')
    _expect(state_dict, 'visual.class_embedding', "OpenAI's CLIP ViT")
    renamed = _rename(state_dict, CLIP_NAMES)
    width = renamed['cls_token'].numel()
    renamed['cls_token'] = renamed['cls_token'].view(1, 1, width)
    renamed['pos_embed'] = renamed['pos_embed'].view(1, -1, width)
    return {key: value.float() for key, value in renamed.items()}


CLIP_LEFT_OUT = (r'transformer\.|token_embedding\.|ln_final\.|text_projection$'
                 r'|positional_embedding$|logit_scale$|input_resolution$'
                 r'|context_length$|vocab_size$|visual\.proj$|attn_mask$'
                 r'|visual\.input_resolution$|visual\.output_dim$')
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
}

# kind -> function from the foreign state dict to the host's
CONVERTERS = {'openai-clip': openai_clip_to_mmpretrain}


def _expect(state_dict, key, what):
    if key not in state_dict:
        first = ', '.join(list(state_dict)[:4])
        raise ValueError(f'this is not {what}: there is no {key!r}; its keys '
                         f'begin with {first or "nothing"}')


def _rename(state_dict, names):
    """Rename every key by the one pattern that matches it whole."""
    renamed = {}
    for key, value in state_dict.items():
        for pattern, name in names.items():
            match = re.fullmatch(pattern, key)
            if match:
                renamed[match.expand(name)] = value
                break
        else:
            raise ValueError(f'do not know what to do with {key!r}')
    return renamed
