"""Checkpoints of the official FD code into what mmfd's training saves."""
from mmfd.errors import Refused
from mmfd.weights.convert_swin import swinv2_to_mmpretrain
from mmfd.weights.convert_vit import VIT_NAMES
from mmfd.weights.rename import check_has, rename


def fd_official_to_mmpretrain(state_dict):
    """FD's own checkpoints to what training with mmfd saves.

    As SwinTransformer/Feature-Distillation saves them, of ViT or Swin V2. Of
    a distilled network the student (`encoder.`) becomes `backbone.`; left out
    on purpose: the projection (`decoder.`) and the frozen teacher
    (`feature_model.`, with CLIP's text tower). A fine-tuned one becomes an
    `mmpretrain.ImageClassifier`, `backbone.` and `head.fc.`.

    Raises:
        Refused: if it is neither, or has keys unknown here.
    """
    backbone, head = _below(state_dict, 'encoder.'), {}
    if backbone:
        for key in state_dict:
            if not key.startswith(('encoder.', 'decoder.', 'feature_model.')):
                raise Refused('this is not a network distilled by FD, '
                              f'which has no {key!r}')
    else:
        head = _below(state_dict, 'head.')
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
    head = rename(head, {r'(weight|bias)': r'head.fc.\1'}, "FD's classifier")
    return head | {f'backbone.{key}': value for key, value in backbone.items()}


def _below(state_dict, prefix):
    return {
        key.removeprefix(prefix): value
        for key, value in state_dict.items() if key.startswith(prefix)
    }


def _fd_vit(state_dict):
    network = "FD's ViT"
    renamed = rename(state_dict, FD_VIT_NAMES, network)
    for name in ('cls_token', 'layers.0.attn.q_bias', 'layers.0.gamma_1'):
        check_has(renamed, name, network)
    return renamed


def _fd_swin(state_dict):
    renamed = swinv2_to_mmpretrain(state_dict)
    cpb_names = [key for key in state_dict if '.cpb_mlp.' in key]
    if cpb_names:
        raise Refused("this is not FD's Swin V2, which has rpe_mlp in the "
                      f'place of {cpb_names[0]!r}')
    return renamed


FD_VIT_NAMES = VIT_NAMES | {
    r'blocks\.(\d+)\.gamma_([12])': r'layers.\1.gamma_\2',
    r'blocks\.(\d+)\.attn\.(q_bias|v_bias|relative_position_bias_table)':
    r'layers.\1.attn.\2',
    r'(rel_pos_bias\.relative_position_bias_table)': r'\1',
    r'fc_norm\.(weight|bias)': r'ln2.\1',
    r'.*\.relative_position_index': None,
}
