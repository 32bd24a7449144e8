"""Refuse settings that nothing reads: what takes each setting of a config.

A dict with a `type` is taken by the constructor of that class, a section
without one by what the host passes it to. What a constructor takes as
`**kwargs` is taken by the one above it, unless it goes elsewhere.
"""
import ast
import difflib
import inspect
import re
import textwrap
from functools import cache
from typing import NamedTuple

import torch
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.runner import (EpochBasedTrainLoop, IterBasedTrainLoop,
                             LogProcessor, Runner, TestLoop, ValLoop)
from mmengine.utils.dl_utils import set_multi_processing
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

from mmfd.errors import Refused
from mmfd.hosts.config_tree import dicts, outer_paths
from mmfd.launch import processes
from mmfd.launch.checks.config_variables import words_of_libraries
from mmfd.launch.checks.type_names import (find_class, find_classes,
                                           no_such_type)

# Sections of a config from which the Runner builds something
SECTIONS = {*inspect.signature(Runner).parameters} - {'cfg', 'work_dir'}
# What else is read at the top level of a config
TOP_LEVEL = SECTIONS | {
    'work_dir', 'compile', 'model_wrapper_cfg', 'find_unused_parameters',
    'activation_checkpointing', 'efficient_conv_bn_eval', 'sync_bn', 'source',
    'tta_model', 'tta_pipeline'
}
# What takes a section without a `type`: a class, a function or these keys
TAKERS = {
    'val_cfg': ValLoop,
    'test_cfg': TestLoop,
    'train_dataloader': DataLoader,
    'val_dataloader': DataLoader,
    'test_dataloader': DataLoader,
    'log_processor': LogProcessor,
    'randomness': Runner.set_randomness,
    'visualizer': Visualizer,
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'env_cfg.mp_cfg': set_multi_processing,
    'env_cfg.dist_cfg': processes.join,
    'auto_scale_lr': {'enable', 'base_batch_size'},
}
LOOPS = {True: EpochBasedTrainLoop, False: IterBasedTrainLoop}  # by_epoch
CLIPPING = dict(
    norm=torch.nn.utils.clip_grad_norm_, value=torch.nn.utils.clip_grad_value_)
# Keys that are read before the rest of a dict is passed on: by the path of the
# dict, and by the class that takes it
OF_LOADERS = {'dataset', 'num_batch_per_epoch', 'disable_subprocess_warning'}
READ_BEFORE = {
    'train_dataloader': OF_LOADERS,
    'val_dataloader': OF_LOADERS,
    'test_dataloader': OF_LOADERS,
    'optim_wrapper': {'optimizer', 'constructor', 'paramwise_cfg'},
    'param_scheduler': {'convert_to_iter_based'},
}
READ_BEFORE_CLASS = {
    Hook: {'priority'},
    torch.nn.Module: {'requires_grad'},  # by what builds norms
}
# Keys of a data set's metainfo that OpenMMLab 2 does not read any more
FORMER_METAINFO = dict(CLASSES='classes', PALETTE='palette')
OF_REGISTRIES = {'type', '_scope_'}
# Settings beside `type` that name a class
NAMING = {'ema_type', 'constructor'}
# What takes the `**kwargs` of classes that hand them to something else
HANDED_ON = {
    CheckpointHook:
    lambda node, scope: [Runner.save_checkpoint],
    EMAHook:
    lambda node, scope: find_classes(
        node.get('ema_type', 'ExponentialMovingAverage'), scope),
}
# What other formats and libraries write for True and False
WORDS = {'yes', 'no', 'on', 'off', 'true', 'false', 'y', 'n'}
# Transforms within which a `type` is not of OpenMMLab
FOREIGN = 'Albu', 'mmdet.Albu', 'Albumentations', 'mmpretrain.Albumentations'


def check(cfg):
    """Refuse settings in a config that nothing reads.

    Left alone are those that the host libraries' own files have.

    Args:
        cfg (Config): of a whole run.

    Raises:
        Refused: naming each of them, or a class that there is not.
    """
    _check_names(cfg)
    stock = words_of_libraries(cfg.filename)
    unread = [
        f'{path}={value!r} ({why})' for path, value, why in unread_in(cfg)
        if path.rpartition('.')[2] not in stock
    ]
    if unread:
        more = f' and {len(unread) - 5} more' if len(unread) > 5 else ''
        raise Refused(f'nothing reads {", ".join(unread[:5])}{more}: take out '
                      'of the config what has no effect')


def check_switches(cfg):
    """Refuse words such as `no` for what is True or False.

    Python takes any text for true, so `no` would be the opposite of it.

    Args:
        cfg (Config): of a whole run.

    Raises:
        Refused: naming the setting.
    """
    for path, node, _ in _parts(cfg):
        for key, value in node.items():
            if isinstance(value, str) and value.lower() in WORDS and any(
                    isinstance(_default(taker, key), bool)
                    for taker in takers_of(path, node, cfg)):
                raise Refused(f'{path}.{key}={value!r}: True or False is '
                              'expected')


def _default(taker, key):
    """What an argument is if it is not set; None if that is not known."""
    constructors = [] if isinstance(taker, set) else _constructors(taker)
    for _, function in constructors:
        parameter = (_parameters(function) or {}).get(key)
        if parameter:
            return parameter.default
    return None


def _check_names(cfg):
    """Refuse an unknown class where a setting but `type` names it.

    The host builds some of them when the training has begun.
    """
    for path, node, _ in _parts(cfg):
        for key in NAMING & node.keys():
            name = node[key]
            if isinstance(name, str) and not find_class(name, scope_of(cfg)):
                raise Refused(f'{path}.{key}: {no_such_type(name)}')


def unread_in(cfg):
    """(dotted path, value, why) of each setting that nothing reads."""
    scope = scope_of(cfg)
    for path, node, around in _parts(cfg):
        if path.endswith('.metainfo'):
            for key in FORMER_METAINFO.keys() & node.keys():
                why = f'did you mean {FORMER_METAINFO[key]!r}?'
                yield f'{path}.{key}', node[key], why
        takers = takers_of(path, node, cfg)
        unread = _not_taken(node, takers, scope)
        if unread and isinstance(node.get('type'), str):
            # the same name may be another class in another registry
            takers = [*takers, *find_classes(node['type'], scope)]
            unread = _not_taken(node, takers, scope)
        for key in unread:
            if not _read_by_name(key, takers, around, cfg):
                yield f'{path}.{key}', node[key], _why(key, node, takers)


def _parts(cfg):
    """(dotted path, dict, those around it) of every dict in the sections.

    Those around it are (dotted path, dict) too, the outer ones first. What
    `FOREIGN` transforms hold is left out.
    """
    found = dict(dicts({key: cfg.get(key) for key in sorted(SECTIONS)}))
    for path, node in found.items():
        around = [(outer, found[outer]) for outer in outer_paths(path)
                  if outer in found]
        if path and not any(
                outer.get('type') in FOREIGN for _, outer in around):
            yield path, node, around


def _read_by_name(key, takers, around, cfg):
    """Whether a class here or around may take a key out of the dict itself.

    Such as a detection head what only it needs of the config of its loss.
    """
    texts = [_source(taker) for taker in takers if not isinstance(taker, set)]
    for path, node in around:
        texts += [
            _source_around(taker) for taker in takers_of(path, node, cfg)
            if not isinstance(taker, set)
        ]
    return any(_quotes(text, key) for text in texts)


def _not_taken(node, takers, scope):
    """Keys of a dict that none of its takers reads; [] if it has no taker."""
    return [
        key for key in (node if takers else ())
        if not any(takes(taker, key, node, scope) for taker in takers)
    ]


def scope_of(cfg):
    """The library of names without one in a config."""
    return cfg.get('default_scope') or 'mmengine'


def class_of(node, cfg):
    """The class that a part of a config is built as; None if unknown.

    Args:
        node (dict): with `type`, a name or the class itself.
        cfg (Config): that it is in.
    """
    kind = node.get('type')
    return find_class(kind, scope_of(cfg)) if isinstance(kind, str) else kind


def takers_of(path, node, cfg):
    """What may take a dict of a config.

    Args:
        path (str): dotted path of the dict.
        node (dict): the dict itself.
        cfg (Config): that it is in.

    Returns:
        list[type | callable | set]: any of them; a set is of the keys that are
        read. Empty where it is not known what takes the dict.
    """
    kind, scope = node.get('type'), scope_of(cfg)
    if path == 'optim_wrapper.clip_grad':
        clip = CLIPPING.get(kind or 'norm')
        takers = [clip] if clip else []
    elif path == 'optim_wrapper.paramwise_cfg':
        name = cfg.optim_wrapper.get('constructor')
        constructor = find_class(
            name, scope) if name else DefaultOptimWrapperConstructor
        takers = [_keys_read(constructor)] if constructor else []
    elif isinstance(kind, str):
        cls = find_class(kind, scope)
        takers = [cls] if cls else []
    elif kind is not None:
        takers = [kind]
    elif path == 'train_cfg':
        takers = [LOOPS[bool(node.get('by_epoch'))], {'by_epoch'}]
    elif path == 'optim_wrapper' and 'optimizer' in node:
        takers = [OptimWrapper]
    else:
        takers = [TAKERS[path]] if path in TAKERS else []
    before = READ_BEFORE.get(re.sub(r'\.\d+$', '', path))  # of a list, too
    return [*takers, before] if takers and before else takers


def known_keys(takers):
    """Names of the arguments that any of these may take."""
    known = set()
    for taker in takers:
        if isinstance(taker, set):
            known |= taker
            continue
        for _, function in _constructors(taker):
            known |= {*(_parameters(function) or ())}
    return known - {'self', 'args', 'kwargs'}


def takes(taker, key, node, scope):
    """Whether a setting of this name is read; one that is refused is not.

    Args:
        taker (type | callable | set): one of `takers_of`.
        key (str): name of the setting.
        node (dict): that it is in.
        scope (str): as of `scope_of`.
    """
    if isinstance(taker, set):
        return key in taker
    if key in OF_REGISTRIES or inspect.isclass(taker) and any(
            key in also and issubclass(taker, cls)
            for cls, also in READ_BEFORE_CLASS.items()):
        return True
    for cls, function in _constructors(taker):
        parameters = _parameters(function)
        if parameters is None:
            return True
        rest = [p.name for p in parameters.values() if p.kind == p.VAR_KEYWORD]
        if key in parameters and key not in rest:
            return True
        if not rest:
            return False
        uses = _uses(cls, function, rest[0])
        if key in uses.read:
            return True
        if cls in HANDED_ON:
            return any(
                takes(other, key, {}, scope)
                for other in HANDED_ON[cls](node, scope))
        if uses.elsewhere:
            return True
        if not uses.upwards:
            return False
    return False


def _constructors(taker):
    """(class, its own constructor) up from a class; a function as it is."""
    if not inspect.isclass(taker):
        return [(None, taker)]
    return [(cls, inspect.unwrap(vars(cls)['__init__']))
            for cls in inspect.getmro(taker) if '__init__' in vars(cls)]


def _parameters(function):
    """Name -> parameter of a function; None for one of C, which hides them."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None


class _Uses(NamedTuple):
    """What a constructor does with its `**kwargs`."""
    read: set = frozenset()  # names that it takes out of them
    upwards: bool = False  # it passes them to the constructor above it
    elsewhere: bool = True  # it does anything else with them


@cache
def _uses(cls, function, kwargs):
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return _Uses()
    read, upwards, known = set(), False, set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Call(func=ast.Name(id='super'), args=start),
                    attr='__init__')) if not start or ast.unparse(
                        start[0]) == cls.__name__:
                passed = [
                    word.value for word in node.keywords
                    if word.arg is None and isinstance(word.value, ast.Name)
                    and word.value.id == kwargs
                ]
                upwards = upwards or bool(passed)
                known.update(passed)
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name() as name,
                    attr='get' | 'pop' | 'setdefault'),
                args=[ast.Constant(value=key), *_]) | ast.Subscript(
                    value=ast.Name() as name,
                    slice=ast.Constant(value=key)) | ast.Compare(
                        left=ast.Constant(value=key),
                        comparators=[ast.Name() as name]):
                if name.id == kwargs:
                    read.add(key)
                    known.add(name)
    names = {
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == kwargs
    }
    return _Uses(read, upwards, bool(names - known))


@cache
def _source(cls):
    """The text of a class and of those above it; of a function its own."""
    return _texts(inspect.getmro(cls) if inspect.isclass(cls) else [cls])


@cache
def _source_around(cls):
    """The text of the files that a class and those above it stand in."""
    classes = inspect.getmro(cls) if inspect.isclass(cls) else [cls]
    return _texts({inspect.getmodule(each) for each in classes})


def _texts(objects):
    texts = []
    for each in objects:
        try:
            texts.append(inspect.getsource(each))
        except (OSError, TypeError):  # of C, or made while running
            pass
    return '\n'.join(texts)


def _keys_read(constructor):
    """Keys that a constructor of an optimizer wrapper reads of its dict."""
    return {
        *re.findall(
            r"paramwise_cfg(?:\.get|\.pop|\.setdefault)?[(\[]\s*'(\w+)'",
            _source(constructor)),
        *re.findall(r"'(\w+)' in self\.paramwise_cfg", _source(constructor))
    }


def _quotes(text, key):
    return re.search(rf"""['"]{re.escape(str(key))}['"]""", text)


def _why(key, node, takers):
    """Which class has no such key, and which key is spelt nearly so."""
    name = node.get('type') or getattr(takers[0], '__name__', 'this section')
    if not isinstance(name, str):
        name = name.__name__
    near = difflib.get_close_matches(key, known_keys(takers), n=1)
    advice = f'; did you mean {near[0]!r}?' if near else ''
    return f'{name} has no {key!r}{advice}'
