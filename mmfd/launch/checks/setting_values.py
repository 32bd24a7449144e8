"""Refuse values of another kind or range than their settings have.

Numbers, names of classes, and True or False.
"""
import inspect
import re
from math import inf

from mmfd.data import stores
from mmfd.errors import Refused
from mmfd.hosts.config_tree import settings
from mmfd.launch.checks.constructor_arguments import default_of
from mmfd.launch.checks.setting_takers import (SECTIONS, parts_of, scope_of,
                                               takers_of)
from mmfd.launch.checks.type_names import (find_class, find_classes,
                                           no_such_type)

# Smallest and largest value of numbers, by the last part of their names
RANGES = dict(
    accumulative_counts=(1, inf),
    base_batch_size=(1, inf),
    batch_size=(1, inf),
    betas=(0, 1),
    drop_path_rate=(0, 1),
    eps=(0, inf),
    held_out=(0, 1),
    img_size=(1, inf),
    in_channels=(1, inf),
    interval=(-1, inf),
    layer_decay=(0, 1),
    lr=(0, inf),
    max_epochs=(1, inf),
    max_iters=(1, inf),
    max_keep_ckpts=(-1, inf),
    max_norm=(0, inf),
    min_lr=(0, inf),
    minutes=(0, inf),
    momentum=(0, 1),
    num_workers=(0, inf),
    out_channels=(1, inf),
    patch_size=(1, inf),
    prefetch_factor=(1, inf),
    prob=(0, 1),
    seed=(0, 2**32 - 1),
    test_window_size=(1, inf),
    timeout=(0, inf),
    val_begin=(0, inf),
    val_interval=(1, inf),
    warmup_epochs=(0, inf),
    warmup_lr=(0, inf),
    weight_decay=(0, inf),
    window_size=(1, inf))
# of hooks; -1 turns off those that allow it
INTERVALS = {'interval', 'interval_exp_name'}
# Settings of which 0 would not be what it seems: no clipping, no checkpoints
NEVER_ZERO = dict(
    dict.fromkeys(INTERVALS, '1 or more'),
    max_keep_ckpts='1 or more, or -1 to keep all,',
    max_norm='a number above 0, or clip_grad=None,',
    clip_value='a number above 0, or clip_grad=None,')
SIZES = {'accumulative_counts', 'batch_size', 'num_workers', 'prefetch_factor'}
# Counts, of which 1.5 would be another number for each that reads it; some
# files of mmdet compute one as 57300.0, which sizes may not be
COUNTS = SIZES | INTERVALS | {
    'max_epochs', 'max_iters', 'max_keep_ckpts', 'save_begin', 'seed',
    'val_begin', 'val_interval'
}
NEEDED = {'accumulative_counts', 'batch_size', 'lr', 'max_norm'}  # not None
# Sections by their paths -> what their classes are, and what the host calls
CALLED = {
    r'(default_hooks\.\w+|custom_hooks\.\d+)':
    ('a hook', 'get_triggered_stages'),
    r'model': ('a model', 'train_step'),
    r'optim_wrapper': ('an optimizer wrapper', 'update_params'),
    r'optim_wrapper\.optimizer': ('an optimizer', 'step'),
    r'param_scheduler(\.\d+)?': ('a schedule', 'step'),
    r'visualizer': ('a visualizer', 'add_datasample'),
    r'(train|val|test)_cfg': ('a loop', 'run'),
    r'(train|val|test)_dataloader\.(batch_)?sampler':
    ('a sampler', '__iter__'),
    r'(train|val|test)_dataloader\.dataset': ('a data set', '__getitem__'),
    r'(val|test)_evaluator(\.\d+)?': ('a metric', 'evaluate'),
}
# Settings beside `type` that name a class
NAMING = {'ema_type', 'constructor'}
# What other formats and libraries write for True and False
WORDS = {'yes', 'no', 'on', 'off', 'true', 'false', 'y', 'n'}


def check_numbers(cfg):
    """Refuse numbers that are out of their range, and text in their place.

    Args:
        cfg (Config): of a whole run.

    Raises:
        Refused: naming the setting and its range.
    """
    for path, value in settings(
        {key: cfg.get(key)
         for key in sorted(SECTIONS)}):
        name = path.rpartition('.')[2]
        if name in NEVER_ZERO and value == 0:
            raise Refused(f'{path}=0: {NEVER_ZERO[name]} is expected')
        if name in COUNTS and not _is_whole(name, value):
            raise Refused(f'{path}={value!r}: a whole number is expected')
        if name in NEEDED and value is None:
            raise Refused(f'{path} is None: a number is expected')
        if name == 'betas' and (not isinstance(value, (list, tuple))
                                or len(value) < 2):
            raise Refused(f'{path}={value!r}: a list of 2 numbers is expected')
        if name not in RANGES or isinstance(value, dict):
            continue
        low, high = RANGES[name]
        values = value if isinstance(value, (list, tuple)) else [value]
        for number in values:
            if isinstance(number,
                          (str, bool)) or (isinstance(number, (int, float))
                                           and not low <= number <= high):
                raise Refused(f'{path}={value!r}: a number of {low} ' +
                              ('or more' if high == inf else f'to {high}') +
                              ' is expected')


def _is_whole(name, value):
    """Whether a count is a whole number, or no number at all."""
    if isinstance(value, float):
        return value.is_integer() and name not in SIZES
    return not isinstance(value, (bool, str))


def check_names(cfg):
    """Refuse an unknown class where a setting but `type` names it.

    The host builds some of them when the training has begun.

    Args:
        cfg (Config): of a whole run.

    Raises:
        Refused: naming the setting and the nearest class.
    """
    for path, node, _ in parts_of(cfg):
        for key in NAMING & node.keys():
            name = node[key]
            if isinstance(name, str) and not find_class(name, scope_of(cfg)):
                raise Refused(f'{path}.{key}: {no_such_type(name)}')


def check_types(cfg):
    """Refuse a class of another kind than its section is built of.

    Any class is found by its path, whichever registry is asked.

    Args:
        cfg (Config): of a whole run.

    Raises:
        Refused: naming the section and what is expected.
    """
    for path, node, _ in parts_of(cfg):
        name = node.get('type')
        for place, (kind, method) in CALLED.items():
            if not isinstance(name, str) or not re.fullmatch(place, path):
                continue
            found = [*find_classes(name, scope_of(cfg))]
            if (found and all(map(inspect.isclass, found))
                    and not any(hasattr(cls, method) for cls in found)):
                raise Refused(f'{path}.type={name!r}: the name of {kind} is '
                              f'expected, and {found[0].__name__} has no '
                              f'{method}()')


def check_addresses(cfg):
    """Refuse a data root with a secret in it, before anything is written.

    Args:
        cfg (Config): of a whole run.

    Raises:
        Refused: of `stores.check_address`.
    """
    for _, node, _ in parts_of(cfg):
        named = node.get('data_root')
        several = isinstance(named, (list, tuple))
        for root in named if several else [named]:
            if isinstance(root, str) and stores.is_address(root):
                stores.check_address(root)


def check_texts(cfg):
    """Refuse text in the place of numbers of hooks, and of True or False.

    Python takes any text for true, so `no` would be the opposite of it.

    Args:
        cfg (Config): of a whole run.

    Raises:
        Refused: naming the setting.
    """
    for path, node, _ in parts_of(cfg):
        for key, value in node.items():
            if not isinstance(value, str):
                continue
            kinds = {
                type(default_of(taker, key))
                for taker in takers_of(path, node, cfg)
            }
            if bool in kinds and value.lower() in WORDS:
                raise Refused(f'{path}.{key}={value!r}: True or False is '
                              'expected')
            if kinds & {int, float} and path.split('.')[0].endswith('_hooks'):
                raise Refused(f'{path}.{key}={value!r}: a number is expected')
