"""Check the sections of a config, before anything is built from them."""
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
    values = {key: cfg.get(key) for key in DICTS}
    for section, key in ('model', 'teacher'), ('env_cfg', 'dist_cfg'):
        if isinstance(values[section], dict):
            values[f'{section}.{key}'] = values[section].get(key)
    for key, value in values.items():
        if value and not isinstance(value, dict):
            raise Refused(f'{key} is {value!r}: a dict is expected')


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
