"""Check the sections of a config, before anything is built from them."""
import inspect
import os
from math import inf

from mmpretrain.models import ImageClassifier

from mmfd.errors import Refused
from mmfd.hosts.config_tree import settings
from mmfd.launch.checks import schedule_checks, setting_takers
from mmfd.launch.checks.setting_takers import SECTIONS, class_of
from mmfd.launch.parallel_config import is_sharded

# Sections without which there is nothing to do
TO_TRAIN = 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper'
TO_TEST = 'model', 'test_dataloader', 'test_cfg', 'test_evaluator'
# Sections that are dicts if they are there
DICTS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader',
         'train_cfg', 'env_cfg', 'optim_wrapper', 'default_hooks',
         'model_wrapper_cfg')

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
    layer_decay=(0, 1),
    lr=(0, inf),
    max_epochs=(1, inf),
    max_iters=(1, inf),
    max_norm=(0, inf),
    min_lr=(0, inf),
    minutes=(0, inf),
    momentum=(0, 1),
    num_workers=(0, inf),
    out_channels=(1, inf),
    patch_size=(1, inf),
    prefetch_factor=(1, inf),
    prob=(0, 1),
    timeout=(0, inf),
    val_begin=(0, inf),
    val_interval=(1, inf),
    warmup_epochs=(0, inf),
    warmup_lr=(0, inf),
    weight_decay=(0, inf),
    window_size=(1, inf))
# of hooks; -1 turns off those that allow it
INTERVALS = {'interval', 'interval_exp_name'}
SIZES = {'accumulative_counts', 'batch_size', 'num_workers', 'prefetch_factor'}
# Counts, of which 1.5 would be another number for each that reads it; some
# files of mmdet compute one as 57300.0, which sizes may not be
COUNTS = SIZES | INTERVALS | {
    'max_iters', 'max_keep_ckpts', 'save_begin', 'val_begin', 'val_interval'
}
NEEDED = {'accumulative_counts', 'batch_size', 'lr', 'max_norm'}  # not None


def check_settings(cfg, train):
    """Check all settings that can be checked before anything is built.

    Args:
        cfg (Config): of a whole run.
        train (bool): to train, or to test.

    Raises:
        Refused: naming the setting and what is expected.
    """
    check_parts(cfg)
    check_numbers(cfg)
    setting_takers.check(cfg)
    setting_takers.check_switches(cfg)
    if train:
        schedule_checks.check_applied_once(cfg)
        schedule_checks.check_averages(cfg)
        schedule_checks.check_best(cfg)
        schedule_checks.check_within(cfg)


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
        if name in INTERVALS and value == 0:
            raise Refused(f'{path}=0: 1 or more is expected')
        if name in COUNTS and not _is_whole(name, value):
            raise Refused(f'{path}={value}: a whole number is expected')
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
    return not isinstance(value, bool)


def check_parts(cfg):
    """Refuse None for a part that the model cannot do without.

    Args:
        cfg (Config): of a whole run.

    Raises:
        Refused: naming the part.
    """
    cls = class_of(cfg.model, cfg)
    if not inspect.isclass(cls):
        return
    needed = {'backbone'}
    if issubclass(cls, ImageClassifier):
        needed.add('head')
    if cls.__module__.startswith('mmfd.'):  # others take None for some
        needed |= {
            key
            for key, parameter in inspect.signature(cls).parameters.items()
            if parameter.default is parameter.empty
        }
    for key in sorted(needed):
        if cfg.model.get(key, ...) is None:
            raise Refused(f'model.{key} is None: {cls.__name__} needs a dict')


def check_sections(cfg, train):
    """Refuse a config that lacks what its task needs.

    Args:
        cfg (Config): of a whole run.
        train (bool): to train, or to test.

    Raises:
        Refused: naming the sections.
    """
    needed = TO_TRAIN if train else TO_TEST
    missing = [key for key in needed if cfg.get(key) is None]
    if missing:
        raise Refused(f'the config has no {", ".join(missing)}, so there is '
                      f'nothing to {"train" if train else "test"}')
    for loop in ('val', 'test'):
        parts = [
            f'{loop}_{part}' for part in ('dataloader', 'cfg', 'evaluator')
        ]
        lacking = [key for key in parts if cfg.get(key) is None]
        if 0 < len(lacking) < len(parts):
            raise Refused(f'the config has no {", ".join(lacking)}: set all '
                          f'of {", ".join(parts)}, or set all to None')
    values = {key: cfg.get(key) for key in DICTS}
    for section, key in ('model', 'teacher'), ('env_cfg', 'dist_cfg'):
        if isinstance(values[section], dict):
            values[f'{section}.{key}'] = values[section].get(key)
    _check_kind(values, dict, 'a dict')
    if not isinstance(cfg.get('resume') or False, bool):
        raise Refused(f'resume is {cfg.resume!r}: True or False is expected; '
                      '--resume CHECKPOINT names what to go on from, as does '
                      'load_from beside resume=True')
    teacher = values.get('model.teacher') or {}
    paths = {'load_from': cfg.get('load_from')}
    if 'checkpoint' in teacher:
        paths['model.teacher.checkpoint'] = teacher['checkpoint'] or ''
    _check_kind(paths, (str, os.PathLike), 'a path')


def _check_kind(values, kind, name):
    """Refuse values of another type, and empty text; None is no value."""
    for key, value in values.items():
        if value is not None and (not isinstance(value, kind) or value == ''):
            raise Refused(f'{key} is {value!r}: {name} is expected')


def check_sharding(cfg):
    """Refuse what needs all weights in each process, if they are sharded.

    Raises:
        Refused: naming both settings.
    """
    if not is_sharded(cfg):
        return
    if cfg.get('compile'):
        raise Refused(
            f'compile={cfg.compile} needs whole weights, of which a process '
            'has a part under model_wrapper_cfg.type=mmfd.FullySharded: take '
            'one of them out of the config')
    teacher = cfg.model.get('teacher') or {}
    if teacher.get('type') == 'mmfd.CachedTeacher':
        raise Refused(
            'mmfd.CachedTeacher computes a missing target in one process, and '
            'model_wrapper_cfg.type=mmfd.FullySharded needs all of them: set '
            'model.teacher.type=mmfd.Teacher, or leave out model_wrapper_cfg')
    hooks = [str(hook.get('type')) for hook in cfg.get('custom_hooks') or ()]
    if any(name.endswith('EMAHook') for name in hooks):
        raise Refused(
            'EMAHook averages whole weights, of which a process has a part '
            'under model_wrapper_cfg.type=mmfd.FullySharded: take one of them '
            'out of the config')
