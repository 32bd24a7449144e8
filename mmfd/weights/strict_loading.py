"""Weights of a file into a network: every tensor fits, or it is refused."""
import re

import torch

from mmfd.errors import Refused
from mmfd.hosts import pytorch
from mmfd.weights import checkpoints
from mmfd.weights.weight_files import first_few

# Names that may lack in a file: norms that a backbone has only for
# fine-tuning (`ln2` on the mean of the patches, `normN` on a stage of a Swin)
MAY_LACK = ('ln2.', 'norm0.', 'norm1.', 'norm2.')
# Names that a network may have no use for: the norm that pre-training ends
# with, the classifier of a converted teacher
MAY_REMAIN = ('ln1.', 'head.')
# Names that only files of a known kind have -> the kind of tools/convert.py
PUBLISHED_NAMES = {
    r'encoder\.(patch_embed|blocks|layers)\..+': 'fd-official',
    r'blocks\.\d+\.(gamma_[12]|attn\.q_bias)': 'fd-official',
    r'layers\.\d+\.blocks\.\d+\.attn\.rpe_mlp\..+': 'fd-official',
}
ADVICE = ('Set arch, img_size and patch_size, of a Swin window_size too, to '
          'those of the file')


def load_into(module, path, prefix='', source='', exact=False):
    """Load a file into a module, and refuse whatever does not fit.

    Args:
        module (nn.Module): changed in place.
        path (str): as `checkpoints.load` takes it.
        prefix (str): take only the weights whose names begin so, without it.
        source (str): as `checkpoints.load` takes it.
        exact (bool): refuse also what the module would resize while it is
            loaded, such as positions of another grid.

    Returns:
        list[str]: what was left out: first parts of names, such as `head`.

    Raises:
        Refused: as `checkpoints.load`, and if a weight of the module has no
            counterpart in the file or the other way round, except for those
            of `MAY_LACK` and `MAY_REMAIN`.
    """
    in_file = checkpoints.state_dict_of(checkpoints.load(path, source), path)
    network, expected = type(module).__name__, module.state_dict()
    if prefix:
        prefix = prefix.rstrip('.') + '.'
    state_dict = {
        key[len(prefix):]: value
        for key, value in in_file.items() if key.startswith(prefix)
        and not key.endswith(checkpoints.DERIVED_BUFFERS)
    }
    if not state_dict:
        raise Refused(
            f'{path} does not fit {network}: none of its keys begins with '
            f'prefix={prefix!r}; they begin with {first_few([*in_file], 3)}. '
            f'{_advice(in_file, prefix, path, expected)}')
    check_precision(state_dict, path)
    if state_dict.keys().isdisjoint(expected.keys()):
        raise Refused(f'{path} does not fit {network}, which knows none of '
                      f'its names: {first_few([*state_dict], 3)}. '
                      f'{_advice(state_dict, prefix, path, expected)}')
    if exact:
        _check_shapes(
            network, path,
            [(key, str([*value.shape]), str([*expected[key].shape]))
             for key, value in state_dict.items() if key in expected])
    try:
        missing, unexpected = module.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        _check_shapes(network, path, pytorch.shape_mismatches(error))
        raise Refused(f'{path} is of another size than {network}: its bias '
                      f'tables are of other windows. {ADVICE}') from None
    outside = [key for key in in_file if not key.startswith(prefix)]
    left_out = {key.partition('.')[0] for key in [*outside, *unexpected]}
    missing = [
        key for key in missing if not key.startswith(MAY_LACK)
        and not key.endswith(checkpoints.DERIVED_BUFFERS)
    ]
    unexpected = [key for key in unexpected if not key.startswith(MAY_REMAIN)]
    if missing or unexpected:
        raise Refused(
            f'{path} does not fit {network}: it lacks {first_few(missing)} '
            f'and has {first_few(unexpected)} that {network} does not know. '
            f'{_advice(unexpected, prefix, path, expected)}')
    return sorted(left_out)


def check_precision(state_dict, path):
    """Refuse weights of less than fp32, in which training here saves them.

    Raises:
        Refused: with the name of one of them.
    """
    for name, value in state_dict.items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise Refused(
                f'{path} holds {name!r} in {value.dtype}, so it has lost '
                'digits that fp32 has: give the file that it was made from')


def _check_shapes(network, path, shapes):
    """Refuse names whose shapes (in the file, in the network) differ."""
    differ = [
        f'{key} is {in_file} in the file and {in_network} in the network'
        for key, in_file, in_network in shapes if in_file != in_network
    ]
    if differ:
        raise Refused(f'{path} is of another size than {network}: '
                      f'{first_few(differ, 3)}. {ADVICE}')


def _advice(unexpected, prefix, path, expected):
    """What to do with a file that has these names and does not fit."""
    for pattern, kind in PUBLISHED_NAMES.items():
        if any(re.fullmatch(pattern, key) for key in unexpected):
            return ('It is as its authors published it; bring it into mm '
                    f'names first: python tools/convert.py {kind} {path} DST')
    if 'head.fc.weight' in expected:
        return ('If it is a distilled student or a backbone alone: '
                'fine-tuning makes the classifier that is expected')
    if any(key.startswith('backbone.') for key in expected):
        return 'It is of another model: give the config that it is of'
    if not prefix and any(key.startswith('backbone.') for key in unexpected):
        return ("It is a whole model: add prefix='backbone.' to its init_cfg; "
                'for a teacher, python tools/export.py SRC DST takes the '
                'backbone out')
    return ('If it comes from elsewhere, bring it into mm names first: '
            'python tools/convert.py KIND SRC DST')
