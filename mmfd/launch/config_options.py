"""Read a config, and check what a command line sets in it."""
import difflib
import inspect
import os
import re
from pathlib import Path

import torch
from mmengine import registry
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import (EpochBasedTrainLoop, LogProcessor, Runner,
                             TestLoop, ValLoop)
from mmengine.runner.utils import set_random_seed
from torch.utils.data import DataLoader

from mmfd.errors import Refused
from mmfd.hosts import mmcv_ops, versions

# What takes a config dict that names no type.
TYPELESS = dict(
    train_cfg=EpochBasedTrainLoop,
    val_cfg=ValLoop,
    test_cfg=TestLoop,
    train_dataloader=DataLoader,
    val_dataloader=DataLoader,
    test_dataloader=DataLoader,
    log_processor=LogProcessor,
    randomness=set_random_seed,
    clip_grad=torch.nn.utils.clip_grad_norm_)
# What the Runner reads from the config beside its own arguments.
ALSO_READ = {
    'compile', 'model_wrapper_cfg', 'find_unused_parameters',
    'activation_checkpointing', 'runner_type', 'strategy'
}
# Where a `type` is looked up; what mmpretrain has no part in, it warns of.
CLASSES = [
    root for root in vars(registry).values()
    if isinstance(root, Registry) and root not in (registry.FUNCTIONS,
                                                   registry.INFERENCERS)
]
# Libraries that an extra of setup.cfg brings.
DOWNSTREAM = ('mmseg', 'mmdet')


def load_config(args):
    """The config that a command line means.

    Raises:
        Refused: if the file or one of `--cfg-options` makes no sense.
    """
    versions.check()
    cfg = read_config(args.config)
    if cfg.get('default_scope') in DOWNSTREAM:
        mmcv_ops.install()  # before anything imports their models
    cfg.work_dir = cfg.get('work_dir') or os.path.join('work_dirs',
                                                       Path(args.config).stem)
    override(cfg, args.cfg_options)
    if args.data_root:
        _set_data_root(cfg, args.data_root)
    cfg.work_dir = args.work_dir or cfg.work_dir
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return cfg


def _set_data_root(cfg, folders):
    """Put folders in the place of every data_root of a dataset.

    Stock configs have it in the annotations of their evaluators too.

    Raises:
        Refused: for several folders, if a dataset takes but one.
    """
    first, *others = folders
    before = set()
    for loop in ('train', 'val', 'test'):
        loader = cfg.get(f'{loop}_dataloader') or {}
        for dataset in dicts(loader.get('dataset')):
            if 'data_root' not in dataset:
                continue
            if others and not dataset.type.startswith('mmfd.'):
                raise Refused(f'--data-root has {len(folders)} folders: '
                              f'{dataset.type} takes one')
            before.add(dataset.data_root)
            dataset.data_root = folders if others else first
    for loop in ('val', 'test'):
        for metric in dicts(cfg.get(f'{loop}_evaluator')):
            path = str(metric.get('ann_file') or '')
            for root in filter(path.startswith, map(str, before)):
                metric.ann_file = os.path.join(first,
                                               path[len(root):].lstrip('/'))


def dicts(node):
    """A config node and all below it that are dicts."""
    if isinstance(node, dict):
        yield node
        node = [*node.values()]
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from dicts(value)


def override(cfg, options):
    """Put settings in the place of a config's own.

    Raises:
        Refused: if one of them is no setting there.
    """
    for key in options:
        _check_option(cfg, options, key)
    try:
        cfg.merge_from_dict(options)
    except TypeError as error:  # keys below what is no dict
        raise Refused(f'--cfg-options: {error}') from error


def read_config(path):
    """A config file as it is.

    Raises:
        Refused: if it is none.
    """
    if not os.path.isfile(path):
        raise Refused(f'no config file {path}')
    MODULE2PACKAGE['mmseg'] = 'mmseg'  # whatever the distribution is called
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is Python and may raise anything
        lacking = isinstance(error, ImportError) and error.name in DOWNSTREAM
        advice = ": pip install 'mmfd[downstream]'" if lacking else ''
        raise Refused(f'config {path}: {type(error).__name__}: '
                      f'{error}{advice}') from error


def _check_option(cfg, options, key):
    """Refuse a key that is neither in the config nor an argument there.

    At the top only what the Runner takes counts: a variable that the file
    uses to build other settings has been used already.
    """
    hooks = re.findall(r'default_hooks\.(\w+)\.type\b', ' '.join(options))
    node, known = cfg, {*inspect.signature(Runner).parameters, *ALSO_READ}
    parts = key.split('.')
    for i, part in enumerate(parts):
        if part not in known:
            where = '.'.join(parts[:i]) or 'the config'
            raise Refused(f'--cfg-options {key}: {where} has no {part!r}; '
                          f'{_did_you_mean(part, known, cfg)}')
        if isinstance(node, (list, tuple)):
            node = node[int(part)]  # known, so a number
        else:
            node = node.get(part)
        if isinstance(node, (list, tuple)):
            known = {str(index) for index in range(len(node))}
        elif part == 'default_hooks':
            known = {*node, *hooks}
        elif isinstance(node, dict):
            known = _known(part, node, cfg.get('default_scope'))
        else:
            return  # what follows, if anything, is new


def _known(name, node, scope):
    """Keys of a config dict, and arguments of what it is given to."""
    taker = TYPELESS.get(name)
    if isinstance(node.get('type'), str):
        taker = find_class(node['type'], scope or 'mmpretrain')
    takers = inspect.getmro(taker) if inspect.isclass(taker) else [taker]
    arguments = [
        argument for taker in takers if taker is not None
        for argument in inspect.signature(
            taker.__init__ if inspect.isclass(taker) else taker).parameters
    ]
    return {*node, *arguments, 'paramwise_cfg'} - {'self', 'args', 'kwargs'}


def find_class(name, scope):
    """The class that a config means by `type=name`."""
    with DefaultScope.overwrite_default_scope(scope):
        for root in CLASSES:
            with root.switch_scope_and_registry(None) as found:
                cls = found.get(name)
            if cls is not None:
                return cls


def no_such_type(name):
    """That nothing is called so, and what is called nearly so."""
    known = []
    for root in CLASSES:
        known += root.module_dict
        for scope, own in root.children.items():
            known += [f'{scope}.{cls}' for cls in own.module_dict]
    near = difflib.get_close_matches(name, known, n=1)
    advice = (f'; did you mean {near[0]!r}?'
              if near else ': check its spelling and custom_imports')
    return f'nothing is called type={name!r}{advice}'


def _did_you_mean(part, known, cfg):
    paths = [path for path in _paths(cfg) if path.split('.')[-1] == part]
    if paths:
        return f'did you mean {" or ".join(map(repr, paths[:3]))}?'
    near = difflib.get_close_matches(part, known, n=1)
    return (f'did you mean {near[0]!r}?'
            if near else f'known are {", ".join(sorted(known))}')


def _paths(node, path=''):
    """Dotted paths of all that the Runner takes from a config."""
    takes = {*inspect.signature(Runner).parameters} if not path else node
    for key, value in node.items():
        if key in takes:
            yield f'{path}{key}'
            if isinstance(value, dict):
                yield from _paths(value, f'{path}{key}.')
