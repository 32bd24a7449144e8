"""Weights of a file into a network: every tensor fits, or it is refused."""
import torch

from mmfd.errors import Refused
from mmfd.hosts import log, pytorch_errors
from mmfd.weights import checkpoints, convert, rename, saved_networks
from mmfd.weights.convert_swin import ALIKE, COORDINATES
from mmfd.weights.rename import HALF, WHOLE
from mmfd.weights.weight_files import first_few

# Names that may lack in a file: norms that a backbone has only for
# fine-tuning (`ln2` on the mean of the patches, `normN` on a stage of a Swin)
MAY_LACK = ('ln2.', 'norm0.', 'norm1.', 'norm2.')
# Names that a network may have no use for: the norm that pre-training ends
# with, the classifier of a converted teacher, the last norm of a Swin whose
# third map is the target
MAY_REMAIN = ('ln1.', 'head.', 'norm3.')
ADVICE = ('Set arch, img_size and patch_size, of a Swin window_size too, to '
          'those of the file')
RESIZE = ('teacher.resize_positions=True, as the official code does with CLIP '
          'ViT-B at sizes other than 224')

ELSEWHERE = ('It is of another network or of another size: give the file that '
             'its library publishes for this name')


def load_into(module,
              path,
              prefix='',
              source='',
              exact=False,
              half=False,
              translate=None):
    """Load a file into a module, and refuse whatever does not fit.

    The log says which of several networks in the file was taken, and which
    prefix its names lost.

    Args:
        module (nn.Module): changed in place.
        path (str): as `checkpoints.load` takes it.
        prefix (str): take only the weights whose names begin so, without it.
        source (str): as `checkpoints.load` takes it.
        exact (bool): refuse also what the module would resize while it is
            loaded, such as positions of another grid.
        half (bool): accept weights in half precision, in which training here
            saves none, but some teachers are published.
        translate (callable): weights in a library's names to weights in those
            of the module. What it returns must match without exception.

    Returns:
        list[str]: what was left out: first parts of names, such as `head`.

    Raises:
        Refused: as `checkpoints.load`, and if a weight of the module has no
            counterpart in the file or the other way round, except for those
            of `MAY_LACK` and `MAY_REMAIN`, or is not finite.
    """
    checkpoint = checkpoints.load(path, source)
    network, expected = type(module).__name__, module.state_dict()
    prefix = prefix and prefix.rstrip('.') + '.'

    def named(weights):
        if translate:
            weights = translate(weights)
        return _named_for(network, expected, weights, prefix, path)

    def advise(names):
        return ELSEWHERE if translate else _advice(names, checkpoint, prefix,
                                                   path, expected)

    resize = ELSEWHERE if translate else ADVICE
    may_lack, may_remain = ((), ()) if translate else (MAY_LACK, MAY_REMAIN)
    try:
        found, others = saved_networks.find(
            saved_networks.look_through(checkpoint), path, named)
    except saved_networks.NothingFits as error:
        advice = advise([*error.weights])
        raise Refused(f'{error}. {advice}') from None
    in_file, state_dict = found.weights, found.fitted
    _check_coordinates(network, path, expected, rename.below(in_file, prefix))
    _check_kinds(state_dict, expected, path)
    precision = check_precision(in_file if translate else state_dict, path,
                                half)
    buffers = {name for name, _ in module.named_buffers()}
    checkpoints.check_finite(state_dict, path, buffers)
    for line in (*precision, *saved_networks.describe(
            found, others, 'to use those, save '
            'them in a file of their own')):
        log.info(f'{path}: {line}')
    if exact:
        _check_shapes(
            network, path,
            [(key, str([*value.shape]), str([*expected[key].shape]))
             for key, value in state_dict.items() if key in expected], resize)
    try:
        missing, unexpected = module.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        _check_shapes(network, path, pytorch_errors.shape_mismatches(error),
                      resize)
        raise Refused(f'{path} is of another size than {network}: its bias '
                      f'tables are of other windows. {resize}') from None
    outside = [key for key in in_file if not key.startswith(prefix)]
    left_out = {key.partition('.')[0] for key in [*outside, *unexpected]}
    missing = [
        key for key in missing if not key.startswith(may_lack)
        and not key.endswith(checkpoints.DERIVED_BUFFERS)
    ]
    unexpected = [key for key in unexpected if not key.startswith(may_remain)]
    if missing or unexpected:
        raise Refused(
            f'{path} does not fit {network}: it lacks {first_few(missing)} '
            f'and has {first_few(unexpected)} that {network} does not know. '
            f'{advise(unexpected)}')
    return sorted(left_out)


def _named_for(network, expected, weights, prefix, path):
    """The weights whose names begin with a prefix, without it.

    Raises:
        Refused: if there are none, or the network knows few of them.
    """
    state_dict = {
        key: value
        for key, value in rename.below(weights, prefix).items()
        if not key.endswith(checkpoints.DERIVED_BUFFERS)
    }
    if not state_dict:
        raise Refused(
            f'{path} does not fit {network}: none of its keys begins with '
            f'prefix={prefix!r}; they begin with {first_few([*weights], 3)}')
    unknown = [key for key in state_dict if key not in expected]
    if 2 * len(unknown) > len(state_dict):
        known = len(state_dict) - len(unknown) or 'none'
        raise Refused(f'{path} does not fit {network}, which knows {known} of '
                      f'its names: {first_few(unknown, 3)}')
    return state_dict


def check_precision(state_dict, path, half=False):
    """Refuse weights of less than fp32, in which training here saves them.

    Args:
        half (bool): say so instead of refusing half precision.

    Returns:
        list[str]: what there is to say.

    Raises:
        Refused: with the name of one of them.
    """
    for name, value in state_dict.items():
        if value.is_floating_point() and value.dtype not in WHOLE:
            if half and value.dtype in HALF:
                return [
                    f'{name!r} and perhaps others are in {value.dtype}, '
                    'and used in fp32'
                ]
            raise Refused(
                f'{path} holds {name!r} in {value.dtype}, so it has lost '
                'digits that fp32 has: give the file that it was made from')
    return []


def _check_coordinates(network, path, expected, in_file):
    """Refuse relative coordinates other than those that a network computes.

    Those of other windows have another shape, and may differ.
    """
    for key, table in in_file.items():
        own = expected.get(key)
        if (key.endswith(COORDINATES) and own is not None
                and own.shape == table.shape and not own.is_meta
                and not torch.allclose(
                    own.cpu(), table.float(), atol=ALIKE, equal_nan=True)):
            raise Refused(
                f'{path}: {key} is not what {network} computes, so the bias '
                'of positions would be another: set '
                'backbone.pretrained_window_sizes to the windows that the '
                'file was pretrained with, 0 for its own')


def _check_kinds(state_dict, expected, path):
    """Refuse whole numbers where the network has fractions."""
    for name, value in state_dict.items():
        if name in expected and expected[name].is_floating_point() and (
                not value.is_floating_point()):
            raise Refused(f'{path} holds {name!r} in {value.dtype}, and the '
                          f'network has {expected[name].dtype} there: give '
                          'the file before it was quantised or changed '
                          'otherwise')


def _check_shapes(network, path, shapes, advice):
    """Refuse names whose shapes (in the file, in the network) differ."""
    differ = [
        f'{key} is {in_file} in the file and {in_network} in the network'
        for key, in_file, in_network in shapes if in_file != in_network
    ]
    if differ:
        positions = all(text.startswith('pos_embed is') for text in differ)
        raise Refused(
            f'{path} is of another size than {network}: '
            f'{first_few(differ, 3)}. {advice}' +
            (f', or {RESIZE}' if positions and advice == ADVICE else ''))


def _advice(names, checkpoint, prefix, path, expected):
    """What to do with a file that has these names and does not fit."""
    kinds = convert.kinds(checkpoint, path)
    if kinds:
        return ('It is as its authors published it; bring it into mm names '
                f'first: python tools/convert.py {" or ".join(kinds)} {path} '
                'DST')
    if 'head.fc.weight' in expected:
        return ('If it is a distilled student or a backbone alone: '
                'fine-tuning makes the classifier that is expected')
    if rename.prefix_of_backbone(expected):
        return 'It is of another model: give the config that it is of'
    if not prefix and rename.prefix_of_backbone(names):
        return ("It is a whole model: add prefix='backbone.' to its init_cfg; "
                'for a teacher, python tools/export.py SRC DST takes the '
                'backbone out')
    foreign = [name for name in names if name not in expected]
    other = rename.recognise(foreign)[1] if foreign else ''
    if other:
        return f'It is {other}'
    return ('If it comes from elsewhere, bring it into mm names first: '
            'python tools/convert.py KIND SRC DST')
