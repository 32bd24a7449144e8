"""What mmengine, mmpretrain and mmcv do not promise to keep: each once."""
import inspect
import re
from contextlib import suppress
from functools import wraps

from mmengine.model import is_model_wrapper
from mmengine.utils import ManagerMixin

from mmfd.hosts import timm_models, versions
from mmfd.hosts.lookup import find

# Hooks that mmengine's Runner adds unless a config replaces them or has None
DEFAULT_HOOKS = dict(
    runtime_info='RuntimeInfoHook',
    timer='IterTimerHook',
    sampler_seed='DistSamplerSeedHook',
    logger='LoggerHook',
    param_scheduler='ParamSchedulerHook',
    checkpoint='CheckpointHook')
# What mmengine's CheckpointHook remembers of the files that it has written
FILES = ('keep_ckpt_ids', 'last_ckpt', 'best_ckpt_path', 'best_ckpt_path_dict')


def accumulative_counts(optim_wrapper):
    """How many iterations make one update of the weights.

    Raises:
        Refused: if mmengine does not say.
    """
    try:
        return optim_wrapper._accumulative_counts
    except AttributeError:
        raise versions.lacks('mmengine',
                             'OptimWrapper._accumulative_counts') from None


def give_back_locks():
    """Let what fails in mmengine give back the lock that it has taken.

    Asked for a logger or visualizer that is not there or cannot be made, it
    keeps its lock, and every other thread that asks for one waits for ever.
    """
    for name in 'get_instance', 'get_current_instance':
        method = getattr(ManagerMixin, name).__func__
        if not hasattr(method, '__wrapped__'):
            setattr(ManagerMixin, name, classmethod(_giving_back(method)))


def _giving_back(method):

    @wraps(method)
    def call(cls, *args, **kwargs):
        try:
            return method(cls, *args, **kwargs)
        except BaseException:
            if release := find('mmengine.utils.manager:_release_lock'):
                with suppress(RuntimeError):  # it was given back before
                    release()
            raise

    return call


def let_schedules_step(optimizer):
    """Schedules of it may be stepped without a warning that it was not."""
    optimizer._global_step = 0


def remembered_files(hook):
    """The attributes of a CheckpointHook that tell of its files: a dict."""
    return {name: value for name, value in vars(hook).items() if name in FILES}


def set_checkpoint_loader(loader):
    """Let mmengine read every checkpoint that is a local file by a function.

    Args:
        loader (callable): (filename, map_location) -> the object in the file.

    Raises:
        Refused: if mmengine takes none: its own loader may run what is in a
            file.
    """
    register = find('mmengine.runner.checkpoint:CheckpointLoader.'
                    'register_scheme')
    if register is None:
        raise versions.lacks('mmengine', 'CheckpointLoader.register_scheme')

    def load_from_local(filename, map_location=None):
        return loader(filename, map_location)  # the host prints this name

    register('', loader=load_from_local, force=True)


def unknown_type(error):
    """The `type` in a config that a registry does not know, and what it has.

    Args:
        error (KeyError): of a registry, which has no class for it.

    Returns:
        tuple: the `type`, and the name of the registry, as `optim wrapper`;
        None for other errors.
    """
    found = re.search(r'([\w.]+) is not in the (?:\w+::)?([\w ]+) registry',
                      str(error))
    return found and found.groups()


def sections(cfg):
    """The values of a config's top level, of which none is imported.

    mmengine's own `values()` imports what a config names lazily, such as a
    model's class; where that cannot be avoided, it is done.
    """
    plain = vars(cfg).get('_cfg_dict')
    return [*cfg.values()] if plain is None else [*dict.values(plain)]


def leave_out_tools(cfg):
    """Take modules, functions and classes out of a config's top level.

    A config file that imports `os` has used it; mmengine keeps it among the
    settings of pure-Python configs, where it can be neither copied nor written
    down.
    """
    plain = vars(cfg).get('_cfg_dict') or {}
    for name, value in [*dict.items(plain)]:
        if callable(value) or inspect.ismodule(value):
            dict.pop(plain, name)


def import_noted(value):
    """What a pure-Python config imports, where it is not imported yet.

    Args:
        value: mmengine's note of an import, or anything else.

    Returns:
        tuple: the object, and the name by which the config imports it; of
        anything else, itself and None.
    """
    notes = find('mmengine.config.lazy:LazyObject'), find(
        'mmengine.config.lazy:LazyAttr')
    if type(value) not in notes:
        return value, None
    return value.build(), f'{value.module}.{value}'


def config_files(path):
    """The file of a config and those that it is based on: a list of paths.

    Each comes after its bases. Where mmengine does not say which these are, it
    is the file alone; for a config of no file, none.
    """
    bases = find('mmengine.config:Config._get_base_files')
    place = find('mmengine.config:Config._get_cfg_path')
    if not path or bases is None or place is None:
        return [str(path)] if path else []
    files = []
    for base in bases(str(path)):
        files += config_files(place(base, str(path))[0])
    return [*files, str(path)]


def let_configs_name(library):
    """Let `_base_` name files of a library, however it was installed.

    mmengine looks for the files of `mmseg` in a distribution of another name,
    which a fork does not have. Where it has no such table, it may find them.
    """
    distributions = find('mmengine.config.utils:MODULE2PACKAGE')
    if distributions is not None:
        distributions[library] = library


def reads_label_maps(transform):
    """Whether a transform of mmcv or mmseg reads the label map of an image."""
    return type(transform).__name__ == 'LoadAnnotations'


def reads_images(transform):
    """Whether a transform of mmcv reads the file of an image."""
    return type(transform).__name__ == 'LoadImageFromFile'


def reduces_zero_label(dataset):
    """`reduce_zero_label` of the files that mmseg names a data set after.

    Returns:
        bool | None: as its class has it by default; None of a data set whose
        classes are not those of its class.
    """
    classes = getattr(dataset, 'METAINFO', {}).get('classes') or ()
    if not classes or [*classes] != [*dataset.metainfo['classes']]:
        return None
    arguments = inspect.signature(type(dataset)).parameters
    return 'reduce_zero_label' in arguments and (
        arguments['reduce_zero_label'].default)


def is_window_attention(module):
    """Whether a module is Swin V1's window attention, of any library."""
    return type(module).__name__ == 'WindowMSA'


def is_drop_path(module):
    """Whether a module drops residual branches; each library has its class."""
    return type(module).__name__ == 'DropPath'


def layout(network):
    """What a backbone says of the tokens or maps that it returns.

    mmpretrain's networks and timm's have an attribute each; TIMMBackbone has a
    network of timm.

    Returns:
        tuple: tokens before the map, or None if it has no such attribute; how
        many of them are registers, the last; whether maps are (B, h, w, C).
    """
    network = getattr(network, 'timm_model', network)
    for name in 'num_extra_tokens', 'num_prefix_tokens':
        before = getattr(network, name, None)
        if isinstance(before, int):
            break
    else:
        before = None
    _, registers = timm_models.prefix_tokens(network)
    return before, registers, timm_models.is_channels_last(network)


def unwrapped(model):
    """The model within a wrapper for several processes."""
    return model.module if is_model_wrapper(model) else model
