"""From a command line to a Runner, with one message for one mistake."""
import difflib
import inspect
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

from mmengine import registry
from mmengine.config import Config, DictAction
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, find_latest_checkpoint

from mmfd import checkpoints


@contextmanager
def one_message():
    """Turn what a user can cause into one message and exit status 1."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')


def add_arguments(parser):
    """What every command that runs a config takes."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='settings that override the config')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0)


def load_config(args):
    """The config that a command line means.

    Raises:
        ValueError: if the file or one of `--cfg-options` makes no sense.
    """
    if not os.path.isfile(args.config):
        raise ValueError(f'no config file {args.config}')
    try:
        cfg = Config.fromfile(args.config)
    except Exception as error:  # a config is Python and may raise anything
        raise ValueError(
            f'config {args.config}: {type(error).__name__}: {error}'
        ) from error
    cfg.work_dir = cfg.get('work_dir') or os.path.join('work_dirs',
                                                       Path(args.config).stem)
    for key in args.cfg_options:
        _check_option(cfg, key)
    cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.work_dir
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return cfg


def _check_option(cfg, key):
    """Refuse a key that is neither in the config nor an argument there.

    At the top only what the Runner takes counts: a variable that the file
    uses to build other settings has been used already.
    """
    node, known = cfg, set(inspect.signature(Runner).parameters)
    parts = key.split('.')
    for i, part in enumerate(parts):
        if isinstance(node, (list, tuple)):
            known = {str(index) for index in range(len(node))}
        if part not in known:
            where = '.'.join(parts[:i]) or 'the config'
            raise ValueError(f'--cfg-options {key}: {where} has no {part!r}; '
                             f'{_did_you_mean(part, known, cfg)}')
        if isinstance(node, (list, tuple)):
            node = node[int(part)]
        else:
            node = node.get(part)
        if not isinstance(node, (dict, list, tuple)):
            return  # deeper keys, if any, make a new dict
        known = _known(node) if isinstance(node, dict) else set()


def _did_you_mean(part, known, cfg):
    for name in known & set(cfg):
        if isinstance(cfg[name], dict) and part in cfg[name]:
            return f'did you mean {f"{name}.{part}"!r}?'
    near = difflib.get_close_matches(part, known, n=1)
    return (f'did you mean {near[0]!r}?'
            if near else f'known are {", ".join(sorted(known))}')


def _known(node):
    """Keys of a config dict, and arguments of the class that it names."""
    cls = _find(node['type']) if isinstance(node.get('type'), str) else None
    arguments = []
    while inspect.isclass(cls):
        arguments += inspect.signature(cls.__init__).parameters
        cls = cls.__base__
    return {*node, *arguments} - {'self', 'args', 'kwargs'}


def _find(name):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for root in (registry.MODELS, registry.HOOKS, registry.OPTIM_WRAPPERS,
                     registry.OPTIMIZERS, registry.DATASETS,
                     registry.TRANSFORMS, registry.OPTIM_WRAPPER_CONSTRUCTORS):
            with root.switch_scope_and_registry(None) as found:
                cls = found.get(name)
            if cls is not None:
                return cls


def prepare(cfg, train):
    """Build a Runner and everything it needs, or leave nothing behind.

    Args:
        cfg (Config): as `load_config` gives it.
        train (bool): whether the train or the test loader is what it needs.

    Raises:
        ValueError, OSError: for what a user can mend.
    """
    _check_images(cfg.train_dataloader if train else cfg.test_dataloader)
    whole = _whole_model(cfg, train)
    for path in (whole, cfg.get('load_from'), *_pretrained(cfg.model)):
        if path:  # the host would run code in it
            checkpoints.load(path, source=cfg.get('source', ''))
    there = set(_entries(cfg.work_dir))
    try:
        runner = Runner.from_cfg(cfg)
        for module in runner.model.modules():
            _check_fit(module)
        if whole:
            checkpoints.load_into(runner.model, whole)
        runner.train_loop if train else runner.test_loop
    except BaseException:
        for entry in set(_entries(cfg.work_dir)) - there:
            path = Path(cfg.work_dir, entry)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if os.path.isdir(cfg.work_dir) and not there:
            os.rmdir(cfg.work_dir)
        raise
    return runner


def _entries(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []


def _check_images(loader):
    dataset = loader.dataset
    prefix = dataset.get('data_prefix', '')
    if not dataset.get('data_root') or not isinstance(prefix, str):
        return  # a dataset of another kind, which checks for itself
    folder = Path(dataset.data_root, prefix)
    turn = ('set train_dataloader.dataset.data_root and data_prefix, '
            'test_dataloader likewise')
    if not folder.is_dir():
        raise FileNotFoundError(f'no image folder {folder}: {turn}')
    suffixes = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.webp', '.tif')
    if not any(file.suffix.lower() in suffixes for file in folder.rglob('*')):
        raise FileNotFoundError(
            f'no images in {folder} (looked for {", ".join(suffixes)}): '
            f'{turn}')


def _whole_model(cfg, train):
    """The checkpoint that must fit the model, to resume or to test it."""
    if train and cfg.get('resume') and not cfg.load_from:
        there = os.path.isdir(cfg.work_dir)
        return find_latest_checkpoint(cfg.work_dir) if there else None
    return cfg.load_from if cfg.get('resume') or not train else None


def _pretrained(node):
    if isinstance(node, dict):
        if node.get('type') == 'Pretrained':
            yield node['checkpoint']
        for value in node.values():
            yield from _pretrained(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _pretrained(value)


def _check_fit(module):
    """The host loads what fits and warns of the rest; refuse instead."""
    init = getattr(module, 'init_cfg', None)
    if isinstance(init, dict) and init.get('type') == 'Pretrained':
        checkpoints.load_into(module, init['checkpoint'],
                              init.get('prefix') or '')
