"""Read a config and apply the options of a command line to it."""
import difflib
import os
import re
from pathlib import Path

from mmengine.config.config import DELETE_KEY, Config

from mmfd.errors import Refused, causes
from mmfd.hosts import log, mmcv_ops, openmmlab, versions
from mmfd.hosts.config_tree import dicts, outer_paths
from mmfd.launch import ranks
from mmfd.launch.checks import config_checks, config_variables
from mmfd.launch.checks.constructor_arguments import known_keys, takes
from mmfd.launch.checks.setting_takers import TOP_LEVEL, scope_of, takers_of
from mmfd.launch.checks.type_names import name_of
from mmfd.launch.paths import find_config
from mmfd.registry import RENAMED

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
    config_variables.check(cfg, TOP_LEVEL | {'custom_imports'})
    override(cfg, args.cfg_options)
    _leave_out_hooks(cfg)
    if args.data_root:
        for key in args.cfg_options:
            if key.endswith('.data_root'):
                raise Refused(f'--cfg-options {key}: --data-root sets that, '
                              'too; take out one of them')
        _set_data_root(cfg, args.data_root)
    if not isinstance(cfg.get('work_dir') or '', (str, os.PathLike, int)):
        raise Refused(f'work_dir is {cfg.work_dir!r}: a path is expected')
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
        Refused: if there is none, it cannot be read, or a section is of
            another kind.
    """
    path = find_config(path)
    openmmlab.let_configs_name('mmseg')
    try:
        cfg = Config.fromfile(path)
        if cfg.get('default_scope') in DOWNSTREAM:
            mmcv_ops.install()  # before their models are imported
        for library in cfg.get('default_scope'), 'mmpretrain':
            log.import_silently(library)
        openmmlab.leave_out_tools(cfg)
        _name_types(cfg)
    except (Exception, SystemExit) as error:  # a config may raise anything
        lacking = isinstance(error, ImportError) and error.name in DOWNSTREAM
        advice = ": pip install 'mmfd[downstream]'" if lacking else ''
        reason, listed, _ = str(error).partition(', the current sys.path is')
        if isinstance(error, AttributeError) and not path.endswith('.py'):
            advice = ': names with their settings are expected in such a file'
        if listed:  # of custom_imports
            *_, first = causes(error)
            reason += f' ({first})'
            advice = ': PYTHONPATH has to name the folder that they are in'
        raise Refused(f'config {path}: {type(error).__name__}: '
                      f'{reason}{advice}') from error
    config_checks.check_kinds(cfg)
    _replace_former_names(cfg)
    return cfg


def read_model_config(path, options):
    """Read a config for a command that needs no more of it than its model.

    Args:
        path (str): of the config.
        options (dict): as of `override`.

    Raises:
        Refused: as `read_config`, `override` and `check_model`.
    """
    cfg = read_config(path)  # which imports the hosts silently
    from mmfd.launch.checks.config_checks import check_model
    override(cfg, options)
    check_model(cfg)
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
        for outer in outer_paths(key):
            if outer in options:  # of which the later would undo the other
                raise Refused(f'--cfg-options {outer} and {key}: the one is '
                              f'a part of the other; say all in {outer}')
        _check_option(cfg, options, key)
    try:
        cfg.merge_from_dict(options)
    except TypeError as error:  # for a key below what is no dict
        raise Refused(f'--cfg-options: {error}') from error
    config_checks.check_kinds(cfg)
    _replace_former_names(cfg)


def _name_types(cfg):
    """Let a pure-Python config name types as others do.

    Its classes become text, once, so whoever reads a `type` finds text, and
    the config that a run writes down is that which it was given.
    """
    for _, node in dicts(openmmlab.sections(cfg)):
        for key in {'type', 'constructor'} & node.keys():
            dict.__setitem__(node, key, name_of(dict.get(node, key)))


def _replace_former_names(cfg):
    """Let a config name hooks as version 0.1 did, and say so once each."""
    former = {f'mmfd.{old}': f'mmfd.{new}' for old, new in RENAMED.items()}
    seen = set()
    for _, node in dicts(openmmlab.sections(cfg)):
        name = dict.get(node, 'type')
        if isinstance(name, str) and name in former:
            node['type'] = former[name]
            seen.add(name)
    for name in sorted(seen) if not ranks.rank() else ():
        log.warn(f'{name} is now {former[name]}')


def _leave_out_hooks(cfg):
    """Take out hooks that are None; the Runner does so for its own alone."""
    hooks = cfg.get('default_hooks') or {}
    for name in hooks.keys() - openmmlab.DEFAULT_HOOKS:
        if hooks[name] is None:
            del hooks[name]


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
        for _, dataset in dicts(loader):
            if 'data_root' not in dataset:
                continue
            name = str(dataset.get('type'))
            if others and not name.startswith('mmfd.'):
                raise Refused(f'--data-root has {len(folders)} folders: '
                              f'{name} takes one')
            replaced.add(str(dataset['data_root']))
            dataset['data_root'] = folders if others else first
    for loop in ('val', 'test'):
        for _, metric in dicts(cfg.get(f'{loop}_evaluator')):
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
    node, known, takers = cfg, TOP_LEVEL, []
    if (cfg.get('model') or {}).get('data_preprocessor'):
        known = known - {'data_preprocessor'}  # which is read in place of it
    if DELETE_KEY in key and not isinstance(options[key], bool):
        raise Refused(f'--cfg-options {key}={options[key]}: True is expected, '
                      f'as the value of a key that ends with {DELETE_KEY}')
    parts = key.split('.')
    for i, part in enumerate(parts):
        where = '.'.join(parts[:i])
        if where and part == DELETE_KEY:
            return
        if part not in known and not any(
                takes(taker, part, node, scope_of(cfg)) for taker in takers):
            raise Refused(f'--cfg-options {key}: {where or "the config"} has '
                          f'no {part!r}; {_did_you_mean(part, known, cfg)}')
        if isinstance(node, (list, tuple)):
            node = node[int(part)]
        else:
            node = node.get(part)
        takers = []
        if isinstance(node, (list, tuple)):
            known = {str(index) for index in range(len(node))}
            if i == len(parts) - 1:
                _check_list(key, options[key])
        elif part == 'default_hooks' and isinstance(node, dict):
            known = {*node, *new_hooks}
        elif isinstance(node, dict):
            place = '.'.join(parts[:i + 1])
            if kind := options.get(f'{place}.type'):
                node = dict(node, type=kind)
            replaced = options.get(f'{place}.{DELETE_KEY}')
            takers = takers_of(place, node, cfg)
            known = {*(() if replaced else node), *known_keys(takers)}
        else:
            return  # the rest of the key, if any, is new


def _check_list(key, value):
    """Refuse the text `1,2` in the place of a list."""
    if isinstance(value, str) and ',' in value:
        raise Refused(f'--cfg-options {key}={value}: a list is expected, '
                      f'{key}="[{value}]"')


def _did_you_mean(part, known, cfg):
    """Where else a config has this key, or which key is spelt nearly so."""
    built = {key: cfg.get(key) for key in sorted(TOP_LEVEL)}
    value = cfg.get(part) if known <= TOP_LEVEL else None
    paths = config_variables.places_of(part, value, built)
    if paths:
        return f'did you mean {" or ".join(map(repr, paths))}?'
    near = difflib.get_close_matches(part, known, n=1)
    return (f'did you mean {near[0]!r}?'
            if near else f'known are {", ".join(sorted(known))}')
