"""Check the sections of a config, before anything is built from them."""
import os

from mmfd.errors import Refused
from mmfd.launch.parallel_config import is_sharded

# Sections without which there is nothing to do
TO_TRAIN = 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper'
TO_TEST = 'model', 'test_dataloader', 'test_cfg', 'test_evaluator'
# Sections that are dicts if they are there
DICTS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader',
         'train_cfg', 'env_cfg', 'optim_wrapper', 'default_hooks',
         'model_wrapper_cfg')


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
    teacher = values.get('model.teacher') or {}
    paths = {'load_from': cfg.get('load_from')}
    if 'checkpoint' in teacher:
        paths['model.teacher.checkpoint'] = teacher['checkpoint'] or ''
    _check_kind(paths, (str, os.PathLike), 'a path')


def _check_kind(settings, kind, name):
    """Refuse values of another type, and empty text; None is no value."""
    for key, value in settings.items():
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
