"""Renaming weights by tables of patterns, and naming what does not fit."""
import re

import torch

from mmfd.errors import Refused

FULL = (torch.float32, )
HALF = (torch.float32, torch.float16, torch.bfloat16)
WHOLE = (torch.float32, torch.float64)  # no digit of fp32 is lost in them
BACKBONE = 'backbone.'
# name that a table does not know -> the kind of network that has such a name;
# what only one kind has stands before what several have
OTHER_NETWORKS = {
    r'.*\.(lora_\w+|base_layer)\..*':
    'trained with LoRA, whose matrices lie beside its weights: merge them '
    '(merge_and_unload() of peft), and save it then',
    r'.*\.(weight|bias)_(orig|mask)':
    'pruned, with masks beside its weights: make them plain '
    '(torch.nn.utils.prune.remove), and save it then',
    r'.*\.(parametrizations\..*|weight_[guv])':
    'made of other weights (weight norm, spectral norm): make them plain '
    '(torch.nn.utils.parametrize.remove_parametrizations), and save it then',
    r'.*\.(qweight|qzeros|g_idx|absmax|quant_map|SCB|_packed_params.*'
    r'|weight_fake_quant.*|activation_post_process.*)':
    'quantised: take the file before it was',
    r'(.*\.)?_?flat_param(_\d+)?':
    'sharded by FSDP: save its full state dict '
    '(StateDictType.FULL_STATE_DICT)',
    r'(.*\.)?total_(ops|params)':
    'a network whose operations were counted (thop), which leaves counters in '
    'it: save it without',
    r'(.*\.)?visual\.(layer\d|attnpool)\..*':
    'a CLIP ResNet; only ViTs are converted',
    r'(.*\.)?(dist_token|distillation_token|head_dist\..*)':
    'a distilled DeiT with a second token; take the one without',
    r'(.*\.)?reg(ister)?_tokens?':
    'a ViT with register tokens, as DINOv3 is and DINOv2 may be, which '
    'mmpretrain.VisionTransformer lacks',
    r'(.*\.)?(attn_pool\..*|head\.(probe|attention\..*))':
    'a ViT that pools with attention, as SigLIP does',
    r'(.*\.)?(encoder\.layers\.\d+\.blocks|features\.\d+\.\d+\.attn)\..*':
    "a Swin Transformer in transformers' or torchvision's names; take it in "
    "timm's or Microsoft's",
    r'(.*\.)?encoder\.layers\.encoder_layer_\d+\..*':
    "a ViT in torchvision's names; take it in timm's",
    r'(.*\.)?layers\.\d+\.(blocks\.\d+\.attn|rel_pos_bias)\.'
    r'(logit_scale|q_bias|(cpb|rpe)_mlp\..*)':
    'a Swin Transformer V2',
    r'(.*\.)?layers\.\d+\.blocks\.\d+\.attn\.'
    r'(relative_position_bias_table|qkv\.bias)':
    'a Swin Transformer V1',
    r'(.*\.)?layers\.\d+\.(blocks|downsample)\..*':
    'a Swin Transformer',
    r'.*(\.ls\d\.gamma|\.layer_scale\d\.lambda1)':
    'a ViT with layer scale, as DeiT III and DINOv2 are',
    r'.*(relative_position|rel_pos_bias).*':
    "a BEiT, or FD's student",
    r'.*\.mlp\.(w\d+|fc1_[gx])\..*':
    'a ViT with SwiGLU, as EVA-02 is',
    r'.*\.q_bias':
    'a ViT whose queries and values alone have biases, as EVA, EVA-02 and '
    "BEiT are, or FD's student",
    r'(.*\.)?fc_norm\..*':
    'fine-tuned on the mean of its patches; take the '
    'pre-trained file',
    r'.*(\.gamma_?\d|\.lambda_?\d|layer_scale).*':
    'a ViT with layer scale',
    r'.*\.(attn\.[qk]_norm|self_attn\.[qk]_norm)\..*':
    'a ViT that normalises its queries and keys',
    r'(backbone\.)?layers\.\d+\.(ln\d|ffn\.layers)\..*':
    'already in mm names; tools/export.py takes a backbone out of a model',
    r'(.*\.)?mask_token':
    'trained on masked images, as SimMIM, BEiT and MAE are',
}


class Renamed(dict):
    """Weights by their new names, and the names that were left out.

    Attributes:
        left_out (list): names in the file that a table leaves out.
    """

    def __init__(self, weights=(), left_out=()):
        super().__init__(weights)
        self.left_out = [*left_out]

    def left_out_families(self):
        """What was left out, with `*` for numbers: `blocks.*.attn.k_bias`."""
        return sorted({
            re.sub(r'(?<![^.])\d+(?![^.])', '*', name)
            for name in self.left_out
        })


def rename(state_dict, names, network, prefix='', dtypes=FULL):
    """Give every weight the name that its pattern has in a table.

    Args:
        state_dict (dict): name -> tensor.
        names (dict): pattern of a whole name -> new name, tried in turn; None
            leaves a weight out. New names that end in `/q`, `/k` and `/v` are
            of three parts, which are joined to one weight.
        network (str): whose names these are, for messages.
        prefix (str): pattern that every name may begin with.
        dtypes (tuple): in which the network is published.

    Returns:
        Renamed: new name -> tensor, in fp32.

    Raises:
        Refused: if a name fits no pattern, two weights get one name, or a
            weight is not of `dtypes`.
    """
    matches = {key: _match(key, names, prefix) for key in state_dict}
    unknown = [key for key, match in matches.items() if not match]
    if unknown:
        key, other = recognise(unknown)
        raise Refused(f'this is not {network}, which has no {key[:99]!r}' +
                      (f': it is {other}' if other else ''))
    renamed = Renamed()
    for key, (match, name) in matches.items():
        if name is None:
            renamed.left_out.append(key)
            continue
        name, value = match.expand(name), state_dict[key]
        if name in renamed:
            raise Refused(f'this is not {network}: {key!r} and another key '
                          f'become {name!r}')
        if value.dtype not in (*dtypes, *WHOLE):
            published = ' or '.join(map(str, dtypes))
            lost = ': this copy has lost digits' if value.dtype in HALF else ''
            raise Refused(
                f'{key!r} is in {value.dtype}, and {network} is published in '
                f'{published}{lost}; take the original')
        renamed[name] = value.float()
    return _join_qkv(renamed, network)


def rename_by_wildcards(weights, names, network):
    """Rename weights in mm names to those of another library.

    Args:
        weights (dict): name -> tensor.
        names (dict): mm name -> the library's, tried in turn. In both, `*`
            stands for a part of a name without dots.
        network (str): whose names these are, for messages.

    Raises:
        Refused: if the library has no name for a weight.
    """
    patterns = {
        re.escape(ours).replace(r'\*', '([^.]+)'): theirs.replace('*', '{}')
        for ours, theirs in names.items()
    }
    renamed = {}
    for key, value in weights.items():
        if not (found := _match(key, patterns)):
            raise Refused(f'{network} has no counterpart of {key!r}: export '
                          'it --to backbone')
        match, theirs = found
        renamed[theirs.format(*match.groups())] = value
    return renamed


def check_has(renamed, name, network):
    """Refuse renamed weights without the one of this name.

    Raises:
        Refused: naming it.
    """
    if name not in renamed:
        raise Refused(f'this is not {network}: nothing in it becomes {name!r}')


def below(weights, prefix):
    """The weights whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items() if name.startswith(prefix)
    }


def prefix_of_backbone(names):
    """`'backbone.'` if names begin so, as training here saves them; or ''."""
    whole = any(name.startswith(BACKBONE) for name in names)
    return BACKBONE if whole else ''


def _match(key, names, prefix=''):
    """The match of the first pattern that fits, and its new name, or None."""
    for pattern, name in names.items():
        match = re.fullmatch(f'(?:{prefix})?(?:{pattern})', key)
        if match:
            return match, name


def recognise(names):
    """Recognise a network by the most characteristic of several names.

    Returns:
        tuple: that name, and in words the network that has it; the first
        name and '' if none is known.
    """
    for pattern, network in OTHER_NETWORKS.items():
        for name in names:
            if re.fullmatch(pattern, name):
                return name, network
    return names[0], ''


def _join_qkv(weights, network):
    """Join query, key and value, along the first axis."""
    stems = {name[:-2] for name in weights if name[-2:] in ('/q', '/k', '/v')}
    for stem in sorted(stems):
        parts = [weights.pop(f'{stem}/{part}', None) for part in 'qkv']
        if any(part is None for part in parts):
            raise Refused(f'this is not {network}: query, key or '
                          f'value is missing for {stem!r}')
        weights[stem] = torch.cat(parts)
    return weights
