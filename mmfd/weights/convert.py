"""Weights of other libraries, by kind, into the names of OpenMMLab."""
from functools import partial

from mmfd.errors import Refused
from mmfd.weights import checkpoints, convert_swin, convert_vit, saved_networks
from mmfd.weights.convert_fd_official import fd_official_to_mmpretrain
from mmfd.weights.rename import HALF
from mmfd.weights.weight_files import first_few

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


def find(kind, checkpoint, path, take=''):
    """Find the network of a kind in a file, and bring it into mm names.

    Args:
        kind (str): key of `CONVERTERS`.
        checkpoint: what `checkpoints.load` returned.
        path (str): for messages.
        take (str): keys or prefix of the network to take.

    Returns:
        tuple: the `saved_networks.Network`, whose `fitted` are its weights in
        mm names and fp32 (`rename.Renamed`); and the places of others.

    Raises:
        Refused: as `saved_networks.find`; if the file is of another kind, it
            says of which, if it knows. Also for weights that are not finite.
    """
    contents = saved_networks.look_through(checkpoint)
    try:
        network, others = _find(kind, contents, path, take)
    except Refused as error:
        fitting = _kinds(contents, path)
        hint = f'. Kind {" or ".join(fitting)} takes it' if fitting else ''
        raise Refused(f'{error}{hint}') from None
    checkpoints.check_finite(network.fitted, path)
    return network, others


def convert(kind, state_dict):
    """Bring weights of one kind into mm names.

    Args:
        kind (str): key of `CONVERTERS`.
        state_dict (dict): name -> tensor.

    Returns:
        Renamed: name -> tensor, in fp32.

    Raises:
        Refused: as `find`.
    """
    return find(kind, state_dict, 'weights')[0].fitted


def kinds(checkpoint, path):
    """The kinds that take a file; if none does, those that take a part."""
    return _kinds(saved_networks.look_through(checkpoint), path)


def _kinds(contents, path):
    for parts in False, True:
        found = [
            kind for kind in CONVERTERS if _takes(kind, contents, path, parts)
        ]
        if found:
            return found
    return []


def note(kind, state_dict):
    """What the user must look up for weights of a kind; '' if nothing."""
    return '' if NO_NOTE.get(kind) in state_dict else NOTES.get(kind, '')


def remarks(kind, network):
    """What to know of a `find` that went well, as lines of text."""
    left_out = network.fitted.left_out_families()
    if left_out:
        yield f'left out: {first_few(left_out)}'
    halves = {
        str(value.dtype)
        for value in network.weights.values() if value.dtype in HALF
    } - {'torch.float32'}
    if halves:
        yield (f'{" and ".join(sorted(halves))} became fp32: digits that the '
               'original may have are missing')
    if note(kind, network.weights):
        yield f'note: {note(kind, network.weights)}'


def _takes(kind, contents, path, parts):
    try:
        return bool(_find(kind, contents, path, parts=parts))
    except Refused:
        return False


def _find(kind, contents, path, take='', parts=True):
    return saved_networks.find(contents, path, partial(_convert, kind, path),
                               take, BRANCHES[kind], parts)


def _convert(kind, path, state_dict):
    try:
        return CONVERTERS[kind](state_dict)
    except Refused as error:
        raise Refused(f'{path}: {error}') from error
    except (RuntimeError, IndexError) as error:  # of torch
        raise Refused(f'{path}: these are no weights of {kind}: a weight has '
                      f'a shape that does not occur there: {error}') from error
