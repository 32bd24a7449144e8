"""Check the sections of a config, before anything is built from them."""
import inspect
import logging
import os

from mmpretrain.models import ImageClassifier

from mmfd.errors import Refused
from mmfd.launch.checks import schedule_checks, setting_values, unread_settings
from mmfd.launch.checks.setting_takers import class_of
from mmfd.launch.parallel_config import is_sharded
from mmfd.registry import branches_of, place_of

# Sections without which there is nothing to do
TO_TRAIN = 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper'
TO_TEST = 'model', 'test_dataloader', 'test_cfg', 'test_evaluator'
# Sections that are dicts if they are there
DICTS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader',
         'train_cfg', 'env_cfg', 'optim_wrapper', 'default_hooks',
         'model_wrapper_cfg', 'randomness', 'auto_scale_lr',
         'data_preprocessor', 'val_cfg', 'test_cfg', 'tta_model',
         'log_processor', 'visualizer')
# Sections that the host reads if they are there, None or not
NEVER_NONE = 'env_cfg', 'randomness'
EVALUATORS = 'val_evaluator', 'test_evaluator'
# What is built of a dict that need not have a `type`: of metrics, or of the
# schedules of several optimizers
UNTYPED = *EVALUATORS, 'param_scheduler'
# How much is logged: Python's names for it, which has others and numbers too
LEVELS = 'DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'


def check_settings(cfg, train):
    """Check all settings that can be checked before anything is built.

    Args:
        cfg (Config): of a whole run.
        train (bool): to train, or to test.

    Raises:
        Refused: naming the setting and what is expected.
    """
    check_parts(cfg)
    setting_values.check_addresses(cfg)
    setting_values.check_numbers(cfg)
    setting_values.check_names(cfg)
    setting_values.check_types(cfg)
    unread_settings.check(cfg)
    setting_values.check_texts(cfg)
    if train:
        schedule_checks.check_applied_once(cfg)
        schedule_checks.check_averages(cfg)
        schedule_checks.check_best(cfg)
        schedule_checks.check_within(cfg)


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


def check_kinds(cfg):
    """Refuse sections of another kind than whatever reads them expects.

    Args:
        cfg (Config): of any command.

    Raises:
        Refused: naming the section.
    """
    values = {key: cfg.get(key) for key in DICTS}
    if isinstance(values['env_cfg'], dict):
        values.update((f'env_cfg.{name}', values['env_cfg'].get(name))
                      for name in ('mp_cfg', 'dist_cfg'))
    if isinstance(values['default_hooks'], dict):
        values.update((f'default_hooks.{name}', hook)
                      for name, hook in values['default_hooks'].items())
    _check_kind(values, dict, 'a dict')
    for key in NEVER_NONE:
        if cfg.get(key, ...) is None:
            raise Refused(f'{key} is None: a dict is expected; leave it out '
                          'for none')
    _check_kind({'custom_hooks': cfg.get('custom_hooks')}, (list, tuple),
                'a list of dicts')
    _check_kind({'default_scope': cfg.get('default_scope')}, str,
                'the name of a library')


def check_sections(cfg, train):
    """Refuse a config that lacks what its task needs.

    Args:
        cfg (Config): of a whole run.
        train (bool): to train, or to test.

    Raises:
        Refused: naming the sections.
    """
    check_kinds(cfg)
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
    _check_built(cfg)
    teachers = {
        f'{place_of(name)}.teacher': branch['teacher']
        for name, branch in branches_of(cfg.model).items()
    }
    _check_kind(teachers, dict, 'a dict')
    if not isinstance(cfg.get('resume') or False, bool):
        raise Refused(f'resume is {cfg.resume!r}: True or False is expected; '
                      '--resume CHECKPOINT names what to go on from, as does '
                      'load_from beside resume=True')
    _check_kind({'compile': cfg.get('compile')}, (bool, dict),
                'True, False or a dict of options of torch.compile')
    _check_level(cfg.get('log_level', 'INFO'))
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    paths = {
        'load_from': cfg.get('begin_from') or cfg.get('load_from'),
        'default_hooks.checkpoint.out_dir': hook.get('out_dir')
    }
    for place, teacher in teachers.items():
        if 'checkpoint' in (teacher or {}):
            paths[f'{place}.checkpoint'] = teacher['checkpoint'] or ''
    _check_kind(paths, (str, os.PathLike), 'a path')


def check_model(cfg):
    """Refuse a config whose model has no parts that could be built.

    For commands that need no more of a config than its model.

    Args:
        cfg (Config): with or without a run.

    Raises:
        Refused: naming the part.
    """
    if cfg.get('model') is None:
        raise Refused(f'{cfg.filename} has no model')
    check_kinds(cfg)
    parts = {'model.backbone': cfg.model.get('backbone')}
    for name, branch in branches_of(cfg.model).items():
        teacher = branch['teacher']
        parts.update((f'{place_of(name)}.{part}', branch.get(part))
                     for part in ('teacher', 'neck', 'head'))
        if isinstance(teacher, dict):
            parts.update(
                (f'{place_of(name)}.teacher.{part}', teacher.get(part))
                for part in ('backbone', 'neck'))
        parts['model.data_preprocessor'] = cfg.model.get('data_preprocessor')
    _check_typed(parts)


def _check_built(cfg):
    """Refuse what is to be built and is no dict, or has no `type`."""
    parts = {'model': cfg.model}
    for key in 'custom_hooks', 'param_scheduler', *EVALUATORS:
        value = cfg.get(key)
        if isinstance(value, (list, tuple)):
            parts.update((f'{key}.{i}', part) for i, part in enumerate(value))
        elif value is not None:
            parts[key] = value
    wrapper = cfg.get('optim_wrapper')
    if isinstance(wrapper, dict) and 'optimizer' in wrapper:
        parts['optim_wrapper.optimizer'] = wrapper['optimizer']
    _check_typed(parts)


def _check_typed(parts):
    """Refuse what is no dict with a type; place in the config -> part."""
    for path, part in parts.items():
        if not isinstance(part, dict) or (path not in UNTYPED
                                          and part.get('type') is None):
            raise Refused(f'{path} is {part!r}: a dict with a type is '
                          'expected')


def _check_level(level):
    """Refuse a `log_level` that Python's logging does not know."""
    number = logging.getLevelName(level) if isinstance(level, str) else level
    if isinstance(number, bool) or not isinstance(number, int):
        raise Refused(f'log_level is {level!r}: one of {", ".join(LEVELS)} is '
                      'expected')


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
    for name, branch in branches_of(cfg.model).items():
        if (branch['teacher'] or {}).get('type') == 'mmfd.CachedTeacher':
            raise Refused(
                'mmfd.CachedTeacher computes a missing target in one process, '
                'and model_wrapper_cfg.type=mmfd.FullySharded needs all of '
                f'them: set {place_of(name)}.teacher.type=mmfd.Teacher, or '
                'leave out model_wrapper_cfg')
    hooks = [str(hook.get('type')) for hook in cfg.get('custom_hooks') or ()]
    if any(name.endswith('EMAHook') for name in hooks):
        raise Refused(
            'EMAHook averages whole weights, of which a process has a part '
            'under model_wrapper_cfg.type=mmfd.FullySharded: take one of them '
            'out of the config')
