"""Checkpoints of the official FD code into what mmfd's training saves."""
import re

from mmfd.errors import Refused
from mmfd.weights.convert_swin import swinv2_to_mmpretrain
from mmfd.weights.convert_vit import BLOCK_NAMES
from mmfd.weights.rename import WHOLE, Renamed, below, check_has, rename

TABLE = 'relative_position_bias_table'


def fd_official_to_mmpretrain(state_dict):
    """FD's own checkpoints to what training with mmfd saves.

    As SwinTransformer/Feature-Distillation saves them, of ViT or Swin V2,
    with whatever options. Of a distilled network the student (`encoder.`)
    becomes `backbone.`; left out on purpose: the projection (`decoder.`) and
    the frozen teacher (`feature_model.`, with CLIP's text tower). A
    fine-tuned one becomes an `mmpretrain.ImageClassifier`, `backbone.` and
    `head.fc.`.

    Raises:
        Refused: if it is neither, or has keys unknown here.
    """
    backbone, head = below(state_dict, 'encoder.'), Renamed()
    distilled = bool(backbone)
    if distilled:
        for key in state_dict:
            if not key.startswith(('encoder.', 'decoder.', 'feature_model.')):
                raise Refused('this is not a network distilled by FD, '
                              f'which has no {key!r}')
    else:
        head = below(state_dict, 'head.')
        if head.keys() != {'weight', 'bias'}:
            raise Refused(
                'this is no network of FD: a distilled one has encoder.*, a '
                'fine-tuned one head.weight and head.bias; it begins with '
                f'{", ".join([*state_dict][:3])}')
        backbone = {
            key: value
            for key, value in state_dict.items() if not key.startswith('head.')
        }
    swin = any(key.startswith('layers.') for key in backbone)
    backbone = _fd_swin(backbone) if swin else _fd_vit(backbone, distilled)
    head = rename(head, {r'(weight|bias)': r'head.fc.\1'}, "FD's classifier")
    left_out = [
        key for key in state_dict
        if key.startswith(('decoder.', 'feature_model.'))
    ]
    prefix = 'encoder.' if distilled else ''
    return Renamed(
        head | {
            f'backbone.{key}': value
            for key, value in backbone.items()
        }, left_out + [prefix + key for key in backbone.left_out])


def _fd_vit(state_dict, distilled):
    """The ViT of either stage, whatever `MODEL.VIT` has.

    `VIT_WITHKBIAS` adds the same number to all scores of a query, which
    softmax takes away: the bias of the keys is left out. The distilled
    `USE_MEAN_POOLING` has a norm that its forward does not use.
    """
    network = "FD's ViT"
    names = FD_VIT_NAMES
    if distilled:
        names = names | {r'fc_norm\.(weight|bias)': None}
    renamed = rename(state_dict, names, network)
    for name in ('patch_embed.projection.weight', 'layers.0.attn.qkv.weight'):
        check_has(renamed, name, network)
    tables = [name for name in renamed if name.endswith(TABLE)]
    if not distilled and not tables and 'layers.0.gamma_1' not in renamed:
        raise Refused(
            'nothing in it tells a fine-tuned ViT of FD (with USE_APE, '
            'without INIT_VALUES) from an EVA: give the distilled file, which '
            'has encoder.* and decoder.*')
    shared = renamed.pop(f'rel_pos_bias.{TABLE}', None)
    if shared is not None and len(tables) > 1:  # USE_RPB too: biases add up
        for name in set(tables) & renamed.keys():
            renamed[name] = renamed[name] + shared
    elif shared is not None:
        renamed[f'rel_pos_bias.{TABLE}'] = shared
    return renamed


def _fd_swin(state_dict):
    for key, value in state_dict.items():
        if '.cpb_mlp.' in key:
            raise Refused("this is not FD's Swin V2, which has rpe_mlp in the "
                          f'place of {key!r}')
        if value.is_floating_point() and value.dtype not in WHOLE:
            raise Refused(f'{key!r} is in {value.dtype}, and FD is published '
                          'in torch.float32: this copy has lost digits; take '
                          'the original')
    scales = any(key.endswith('.logit_scale') for key in state_dict)
    for key in state_dict:
        if scales and re.fullmatch(rf'layers\..*\.{TABLE}', key):
            raise Refused(
                f'{key!r} is of a Swin V2 with DEV.RCT_TYPE none: its bias is '
                'a table, and that of mmfd.StudentSwin a function of the '
                'coordinates')
    return swinv2_to_mmpretrain(state_dict)


FD_VIT_NAMES = BLOCK_NAMES | {
    r'blocks\.(\d+)\.gamma_([12])': r'layers.\1.gamma_\2',
    r'blocks\.(\d+)\.attn\.(q_bias|v_bias|relative_position_bias_table)':
    r'layers.\1.attn.\2',
    r'(rel_pos_bias\.relative_position_bias_table)': r'\1',
    r'fc_norm\.(weight|bias)': r'ln2.\1',
    r'.*\.relative_position_index|blocks\.\d+\.attn\.k_bias': None,
}
