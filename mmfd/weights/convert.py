"""Weights of other libraries, by kind, into the names of OpenMMLab."""
from mmfd.errors import Refused
from mmfd.weights import convert_swin, convert_vit
from mmfd.weights.convert_fd_official import fd_official_to_mmpretrain

# kind -> function from a state dict as published to one in mm names
CONVERTERS = {
    'deit': convert_vit.deit_to_mmpretrain,
    'dino': convert_vit.dino_to_mmpretrain,
    'esvit': convert_swin.esvit_to_mmpretrain,
    'fd-official': fd_official_to_mmpretrain,
    'hf-clip': convert_vit.hf_clip_to_mmpretrain,
    'hf-vit': convert_vit.hf_vit_to_mmpretrain,
    'mae': convert_vit.mae_to_mmpretrain,
    'open-clip': convert_vit.open_clip_to_mmpretrain,
    'openai-clip': convert_vit.openai_clip_to_mmpretrain,
    'swin': convert_swin.swin_to_mmpretrain,
    'swinv2': convert_swin.swinv2_to_mmpretrain,
    'timm': convert_vit.timm_to_mmpretrain,
}
# kind -> the network to take of a training checkpoint that holds two
BRANCHES = dict.fromkeys(CONVERTERS, 'teacher') | {'esvit': 'student'}
# kind -> what its files do not say, and the key of the config that does
NOTES = dict.fromkeys(
    ('hf-clip', 'open-clip', 'openai-clip', 'timm'),
    "activation and statistics are not in the file. OpenAI's are in "
    'configs/_base_/teachers/clip_*.py; on such a base LAION and most others '
    'need model.teacher.backbone.layer_cfgs.act_cfg.type=GELU, some also '
    'their own model.teacher.normalize')
# kind -> name that only files of one origin have, of which all is known
NO_NOTE = {'openai-clip': 'input_resolution'}


def convert(kind, state_dict):
    """Bring weights of one kind into mm names.

    Args:
        kind (str): key of `CONVERTERS`.
        state_dict (dict): name -> tensor.

    Returns:
        dict: name -> tensor, in fp32.

    Raises:
        Refused: if they are of another kind; says of which, if it knows.
    """
    try:
        return _convert(kind, state_dict)
    except Refused as error:
        others = [other for other in CONVERTERS if _takes(other, state_dict)]
        hint = f'. Kind {" or ".join(others)} takes it' if others else ''
        raise Refused(f'{error}{hint}') from None


def note(kind, state_dict):
    """What the user must look up for weights of a kind; '' if nothing."""
    return '' if NO_NOTE.get(kind) in state_dict else NOTES.get(kind, '')


def _takes(kind, state_dict):
    try:
        return bool(_convert(kind, state_dict))
    except Refused:
        return False


def _convert(kind, state_dict):
    try:
        return CONVERTERS[kind](state_dict)
    except Refused:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        # of torch, for a shape; of int(), for a number of too many digits
        raise Refused(f'these are no weights of {kind}: a weight has '
                      f'a shape that does not occur there: {error}') from error
