"""The paths in a config, looked at before anything large is imported."""
import os

from mmengine.config import Config

from mmfd.data import roots
from mmfd.errors import Refused
from mmfd.hosts.config_tree import dicts
from mmfd.launch.paths import find_config
from mmfd.registry import branches_of
from mmfd.weights import weight_files


def check(config, options, loops=(), begins=False):
    """Refuse the first file or folder that a config needs and that is missing.

    A config that cannot be read, or is wrong in another way, passes:
    `load_config` and `prepare` read it again, and say what it is.

    Args:
        config (str): its path.
        options (dict): of `--cfg-options`, not checked yet.
        loops (Sequence[str]): of `train`, `val` and `test` those whose images
            are needed.
        begins (bool): no `--resume` was given: what its networks start from is
            needed, too.

    Raises:
        Refused: naming the path, and where it can be had.
    """
    try:
        # whatever classes it imports are not needed yet
        cfg = Config.fromfile(find_config(config), import_custom_modules=False)
        cfg.merge_from_dict(options)
    except Refused:
        raise
    except (Exception, SystemExit):  # a config may raise anything
        return
    model, begins = cfg.get('model'), begins and not cfg.get('resume')
    if begins and isinstance(cfg.get('load_from'), str):
        weight_files.resolve(cfg.load_from)
    if isinstance(model, dict):
        for file, source in teacher_files(model):
            weight_files.resolve(file, source)
        for file in pretrained_files(model) if begins else ():
            weight_files.resolve(file, cfg.get('source', ''))
    for loop in loops:
        for _, dataset in dicts(cfg.get(f'{loop}_dataloader')):
            _check_data_root(dataset, loop)


def teacher_files(model):
    """The files of a model's teachers, and where each can be had.

    Args:
        model (dict): config.
    """
    for branch in branches_of(model).values():
        teacher = branch['teacher']
        file = isinstance(teacher, dict) and teacher.get('checkpoint')
        if isinstance(file, str) and file != weight_files.RANDOM:
            yield file, teacher.get('source', '')


def pretrained_files(model):
    """The files that the `init_cfg` of a model and its parts name.

    Addresses are left out: the host downloads them.

    Args:
        model (dict): config.

    Raises:
        Refused: for an `init_cfg` that names no file.
    """
    for _, init in dicts(model):
        if init.get('type') == 'Pretrained':
            file = init.get('checkpoint')
            if not isinstance(file, str):
                raise Refused(
                    f'init_cfg of type Pretrained with checkpoint={file!r}: '
                    'set checkpoint to the path of a weights file')
            if '://' not in file:
                yield file


def _check_data_root(dataset, loop):
    """Refuse the folder of a data set, ours or of a host, that is not there.

    Args:
        dataset (dict): config of any part of a dataloader.
        loop (str): for the message.
    """
    root = dataset.get('data_root')
    if str(dataset.get('type')).startswith('mmfd.'):
        for each in root if isinstance(root, (list, tuple)) else [root]:
            if isinstance(each, str):
                roots.check_root(each)
        return
    within = [dataset.get('ann_file'), *_prefixes(dataset)]
    if (isinstance(root, str) and root and '://' not in root
            and not dataset.get('backend_args')  # which may lead elsewhere
            and any(
                isinstance(path, str) and path and not os.path.isabs(path)
                for path in within) and not os.path.isdir(root)):
        raise Refused(
            f'no folder {root}, which is the data_root of {loop}_dataloader: '
            'name another with --data-root')


def _prefixes(dataset):
    prefix = dataset.get('data_prefix')
    return prefix.values() if isinstance(prefix, dict) else [prefix]
