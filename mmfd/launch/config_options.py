"""Read a config and apply the options of a command line to it."""
import difflib
import inspect
import logging
import os
import re
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import (EpochBasedTrainLoop, LogProcessor, Runner,
                             TestLoop, ValLoop)
from mmengine.runner.utils import set_random_seed
from torch.utils.data import DataLoader

from mmfd.errors import Refused
from mmfd.hosts import mmcv_ops, openmmlab, versions
from mmfd.launch import processes
from mmfd.launch.type_names import find_class, name_of
from mmfd.registry import RENAMED

# What the host passes a section of a config to, where it has no `type`
RECEIVERS = dict(
    train_cfg=EpochBasedTrainLoop,
    val_cfg=ValLoop,
    test_cfg=TestLoop,
    train_dataloader=DataLoader,
    val_dataloader=DataLoader,
    test_dataloader=DataLoader,
    log_processor=LogProcessor,
    randomness=set_random_seed,
    clip_grad=torch.nn.utils.clip_grad_norm_)
# What is read from a config beside the arguments of the Runner
ALSO_READ = {
    'compile', 'model_wrapper_cfg', 'find_unused_parameters',
    'activation_checkpointing', 'runner_type', 'strategy'
}
# Libraries that come with an extra of setup.cfg
DOWNSTREAM = ('mmseg', 'mmdet')


def load_config(args):
    """The config that a command line describes.

    Args:
        args (Namespace): of `command_line.add_arguments`.

    Returns:
        Config: with `work_dir` and `launcher` set.

    Raises:
        Refused: if the installed libraries, the file or an option is wrong.
    """
    versions.check()
    cfg = read_config(args.config)
    override(cfg, args.cfg_options)
    if args.data_root:
        _set_data_root(cfg, args.data_root)
    cfg.work_dir = str(
        args.work_dir or cfg.get('work_dir')
        or os.path.join('work_dirs',
                        Path(args.config).stem))
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return cfg


def read_config(path):
    """Read a config file; former names in it are replaced.

    Raises:
        Refused: if there is none, or it cannot be read.
    """
    if not os.path.isfile(path):
        raise Refused(f'no config file {path}')
    openmmlab.let_configs_name('mmseg')
    try:
        cfg = Config.fromfile(path)
        if cfg.get('default_scope') in DOWNSTREAM:
            mmcv_ops.install()  # before their models are imported
        _name_types(cfg)
    except Exception as error:  # a config is Python and may raise anything
        lacking = isinstance(error, ImportError) and error.name in DOWNSTREAM
        advice = ": pip install 'mmfd[downstream]'" if lacking else ''
        raise Refused(f'config {path}: {type(error).__name__}: '
                      f'{error}{advice}') from error
    _replace_former_names(cfg)
    return cfg


def override(cfg, options):
    """Replace settings of a config.

    Args:
        cfg (Config): changed in place.
        options (dict): dotted path of a setting -> its new value.

    Raises:
        Refused: if there is no such setting.
    """
    for key in options:
        _check_option(cfg, options, key)
    try:
        cfg.merge_from_dict(options)
    except TypeError as error:  # for a key below what is no dict
        raise Refused(f'--cfg-options: {error}') from error
    _replace_former_names(cfg)


def nested_dicts(node):
    """Every dict in a part of a config, at any depth, the outer ones first.

    What a config imports lazily is not imported.
    """
    if isinstance(node, dict):
        yield node
        node = [*dict.values(node)]
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from nested_dicts(value)


def _name_types(cfg):
    """Let a pure-Python config name types as others do.

    Its classes become text, once, so whoever reads a `type` finds text, and
    the config that a run writes down is that which it was given.
    """
    for node in nested_dicts(openmmlab.sections(cfg)):
        for key in {'type', 'constructor'} & node.keys():
            dict.__setitem__(node, key, name_of(dict.get(node, key)))


def _replace_former_names(cfg):
    """Let a config name hooks as version 0.1 did, and say so once each."""
    former = {f'mmfd.{old}': f'mmfd.{new}' for old, new in RENAMED.items()}
    seen = set()
    for node in nested_dicts(openmmlab.sections(cfg)):
        name = dict.get(node, 'type')
        if isinstance(name, str) and name in former:
            node['type'] = former[name]
            seen.add(name)
    for name in sorted(seen) if not processes.rank() else ():
        print_log(f'{name} is now {former[name]}', 'current', logging.WARNING)


def _set_data_root(cfg, folders):
    """Replace the `data_root` of every dataset.

    Stock configs repeat it in the annotation file of an evaluator.

    Args:
        folders (list[str]): several only where every dataset is of mmfd.

    Raises:
        Refused: for several folders, if a dataset takes one.
    """
    first, *others = folders
    replaced = set()
    for loop in ('train', 'val', 'test'):
        loader = cfg.get(f'{loop}_dataloader')
        for dataset in nested_dicts(loader):
            if 'data_root' not in dataset:
                continue
            name = str(dataset.get('type'))
            if others and not name.startswith('mmfd.'):
                raise Refused(f'--data-root has {len(folders)} folders: '
                              f'{name} takes one')
            replaced.add(str(dataset['data_root']))
            dataset['data_root'] = folders if others else first
    for loop in ('val', 'test'):
        for metric in nested_dicts(cfg.get(f'{loop}_evaluator')):
            path = str(metric.get('ann_file') or '')
            for root in filter(path.startswith, replaced):
                metric['ann_file'] = os.path.join(first,
                                                  path[len(root):].lstrip('/'))


def _check_option(cfg, options, key):
    """Refuse a key that is neither in the config nor an argument there.

    At the top level only what the Runner takes counts: a variable from which
    the file builds other settings has been used already.
    """
    new_hooks = re.findall(r'default_hooks\.(\w+)\.type\b', ' '.join(options))
    node, known = cfg, {*inspect.signature(Runner).parameters, *ALSO_READ}
    parts = key.split('.')
    for i, part in enumerate(parts):
        if part not in known:
            where = '.'.join(parts[:i]) or 'the config'
            raise Refused(f'--cfg-options {key}: {where} has no {part!r}; '
                          f'{_did_you_mean(part, known, cfg)}')
        if isinstance(node, (list, tuple)):
            node = node[int(part)]
        else:
            node = node.get(part)
        if isinstance(node, (list, tuple)):
            known = {str(index) for index in range(len(node))}
            if i == len(parts) - 1:
                _check_list(key, options[key])
        elif part == 'default_hooks' and isinstance(node, dict):
            known = {*node, *new_hooks}
        elif isinstance(node, dict):
            known = _known(part, node, cfg.get('default_scope'))
        else:
            return  # the rest of the key, if any, is new


def _check_list(key, value):
    """Refuse the text `1,2` in the place of a list."""
    if isinstance(value, str) and ',' in value:
        raise Refused(f'--cfg-options {key}={value}: a list is expected, '
                      f'{key}="[{value}]"')


def _known(name, node, scope):
    """Keys of a config dict, and arguments of what the host makes of it."""
    receiver = RECEIVERS.get(name)
    if isinstance(node.get('type'), str):
        receiver = find_class(node['type'], scope or 'mmpretrain')
    receivers = inspect.getmro(receiver) if inspect.isclass(receiver) else [
        receiver
    ]
    arguments = [
        argument for receiver in receivers if receiver is not None
        for argument in inspect.signature(
            receiver.__init__ if inspect.isclass(receiver) else receiver).
        parameters
    ]
    return {*node, *arguments, 'paramwise_cfg'} - {'self', 'args', 'kwargs'}


def _did_you_mean(part, known, cfg):
    """Where else a config has this key, or which key is spelt nearly so."""
    paths = [path for path in _paths(cfg) if path.split('.')[-1] == part]
    if paths:
        return f'did you mean {" or ".join(map(repr, paths[:3]))}?'
    near = difflib.get_close_matches(part, known, n=1)
    return (f'did you mean {near[0]!r}?'
            if near else f'known are {", ".join(sorted(known))}')


def _paths(node, path=''):
    """Dotted paths of all settings that the Runner takes from a config."""
    taken = node if path else {*inspect.signature(Runner).parameters}
    for key, value in node.items():
        if key in taken:
            yield f'{path}{key}'
            if isinstance(value, dict):
                yield from _paths(value, f'{path}{key}.')
