"""Load the weights that a config's `init_cfg` names, or refuse them.

The host loads what fits and warns of the rest.
"""
from mmengine.dist import broadcast
from torch.utils import serialization

from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.launch.config_options import nested_dicts
from mmfd.networks.library_network import LibraryNetwork
from mmfd.weights import checkpoints, strict_loading
from mmfd.weights.weight_files import first_few

LIBRARIES = ('mmfd', 'mmpretrain')  # whose modules are loaded here


def pretrained_files(model):
    """The files that the `init_cfg` of a model and its parts name.

    Addresses are left out: the host downloads them.

    Args:
        model (dict): config.

    Raises:
        Refused: for an `init_cfg` that names no file.
    """
    for init in nested_dicts(model):
        if init.get('type') == 'Pretrained':
            file = init.get('checkpoint')
            if not isinstance(file, str):
                raise Refused(
                    f'init_cfg of type Pretrained with checkpoint={file!r}: '
                    'set checkpoint to the path of a weights file')
            if '://' not in file:
                yield file


def load_pretrained(model):
    """Load what each module's `init_cfg` names, in the place of the host.

    Raises:
        Refused: if a file cannot be read, or does not fit its module.
    """
    for module in _pretrained(model):
        init = module.init_cfg
        prefix = init.pop('prefix', None)
        if isinstance(module, LibraryNetwork):
            left_out = module.load_weights(
                init['checkpoint'], prefix=prefix or '')
        else:
            left_out = strict_loading.load_into(module, init['checkpoint'],
                                                prefix or '')
        log.info(
            f'{type(module).__name__} starts from {init["checkpoint"]}' +
            (f', without its {" and ".join(left_out)}' if left_out else ''))
        if prefix:  # the host takes an empty one for a name
            init['prefix'] = prefix


def forget_pretrained(model):
    """Keep the host from loading them over those of a checkpoint."""
    for module in _pretrained(model):
        module.init_cfg = None


def check_shared_names(model, path):
    """Refuse a `load_from` of which the host would load nothing.

    It loads what fits and warns of the rest, and would train random weights.

    Args:
        model (nn.Module): of a run that begins.
        path (str): of the file.

    Raises:
        Refused: if none of its names is one of the model.
    """
    with serialization.config.patch('load.mmap', True):
        weights = checkpoints.load(path)
    weights = weights.get('state_dict', weights)  # where the host looks
    names = [str(name).removeprefix('module.') for name in weights]
    known = [name for name, _ in model.named_parameters()]
    if not {*names} & {*known}:
        raise Refused(
            f'load_from={path} has no weight of this model: it has '
            f'{first_few(names, 3)}, at its top or below state_dict, and the '
            f'model {first_few(known, 3)}. Give a checkpoint of such a model; '
            'a backbone alone is given by init_cfg')


def share_teacher(teacher):
    """Give every process the weights that the first one has drawn at random.

    The host sends those of the student, which is all that it sees of a model.
    """
    for tensor in teacher.backbone.state_dict().values():
        broadcast(tensor)
    teacher.weights_replaced()


def _pretrained(model):
    """Modules of mmfd and mmpretrain whose `init_cfg` names a file."""
    for module in model.modules():
        init = getattr(module, 'init_cfg', None)
        library = type(module).__module__.partition('.')[0]
        if (isinstance(init, dict) and init.get('type') == 'Pretrained'
                and library in LIBRARIES):
            yield module
