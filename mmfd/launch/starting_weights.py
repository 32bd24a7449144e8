"""Load the weights that a config's `init_cfg` names, or refuse them.

The host loads what fits and warns of the rest.
"""
from mmengine.dist import broadcast
from torch.utils import serialization

from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.networks.library_network import LibraryNetwork
from mmfd.weights import checkpoints, strict_loading
from mmfd.weights.weight_files import first_few

LEAST_SHARE = .5  # of its backbone that a model needs of a `load_from`
LIBRARIES = ('mmfd', 'mmpretrain')  # whose modules are loaded here


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


def check_fit(model, path):
    """Say what a `load_from` gives to a model; refuse one of another kind.

    The host loads what fits and warns of the rest, and would train a network
    of mostly random weights.

    Args:
        model (nn.Module): of a run that begins.
        path (str): of the file.

    Raises:
        Refused: if less than half of the backbone, or of a model without one,
            is in the file.
    """
    with serialization.config.patch('load.mmap', True):
        weights = checkpoints.load(path)
    weights = weights.get('state_dict', weights)  # where the host looks
    given = {
        str(name).removeprefix('module.'): getattr(value, 'shape', None)
        for name, value in weights.items()
    }
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    lacking = [
        name for name, p in model.named_parameters()
        if given.get(name) != p.shape
    ]
    part = [n for n in sizes if n.startswith('backbone.')] or [*sizes]
    if _share({*part} - {*lacking}, part, sizes) < LEAST_SHARE:
        other = [name for name in lacking if name in given]
        raise Refused(
            f'load_from={path} has {len({*part} - {*lacking})} of the '
            f'{len(part)} weights of this '
            f'{"backbone" if len(part) < len(sizes) else "model"}: ' +
            (f'of other shapes are {first_few(other, 3)}; ' if other else '') +
            f'at its top or below state_dict are {first_few([*given], 3)}, '
            f'the model has {first_few(part, 3)}. Give a checkpoint of such a '
            'model; a backbone alone is given by init_cfg')
    share = _share({*sizes} - {*lacking}, sizes, sizes)
    log.info(
        f'load_from={path} gives {share:.1%} of the numbers of the model' +
        (f'; {first_few(lacking)} begin at random' if lacking else ''))


def _share(names, of_names, sizes):
    """How many of the numbers that some names have are of others: 0 to 1."""
    return sum(map(sizes.get, names)) / max(1, sum(map(sizes.get, of_names)))


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
