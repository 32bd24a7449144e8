"""Refuse settings that are applied twice, or never within the run."""
from inspect import isclass

from mmengine.evaluator import BaseMetric
from mmengine.hooks import (CheckpointHook, DistSamplerSeedHook,
                            EarlyStoppingHook, EMAHook, IterTimerHook,
                            LoggerHook, ParamSchedulerHook, RuntimeInfoHook)

from mmfd.errors import Refused
from mmfd.hosts import log, openmmlab
from mmfd.launch.checks.config_variables import (assigned_by_user,
                                                 words_of_libraries)
from mmfd.launch.checks.setting_takers import class_of
from mmfd.training.lr_schedule import WarmupCosineHook

# Of each of these, and of each of ours, a run needs one
ONCE = (RuntimeInfoHook, IterTimerHook, DistSamplerSeedHook, LoggerHook,
        ParamSchedulerHook, CheckpointHook, EMAHook)
# When a hook begins to act: its name -> the setting, counted in epochs or
# iterations, which the run has to be longer than
BEGINNINGS = dict(
    EMAHook=dict(
        begin_epoch='epochs', begin_iter='iterations', interval='iterations'),
    YOLOXModeSwitchHook=dict(num_last_epochs='epochs'),
    PipelineSwitchHook=dict(switch_epoch='epochs'))
# Hooks that go by a number of the evaluation -> the setting that names it
NAMING = {CheckpointHook: 'save_best', EarlyStoppingHook: 'monitor'}
WARMUPS = 'LinearLR', 'LinearParamScheduler', 'QuadraticWarmupLR'


def check_applied_once(cfg):
    """Refuse what two mechanisms would apply, or another one hides.

    Args:
        cfg (Config): of a run that trains.

    Raises:
        Refused: naming both.
    """
    hooks = [*_hooks(cfg)]
    ours = [cls for *_, cls in hooks if cls.__module__.startswith('mmfd.')]
    for cls in dict.fromkeys([*ONCE, *ours]):
        paths = [path for path, _, hook in hooks if issubclass(hook, cls)]
        if len(paths) > 1:
            raise Refused(f'{" and ".join(paths)} are both {cls.__name__}: '
                          'take one of them out of the config')
    _check_schedule(cfg, hooks)
    _check_preprocessor(cfg)
    _check_metrics(cfg)


def check_averages(cfg):
    """Refuse a share of new weights that is all or nothing.

    The host would find out when the training begins.

    Args:
        cfg (Config): of a run that trains.

    Raises:
        Refused: naming the setting.
    """
    for path, hook, cls in _hooks(cfg):
        momentum = hook.get('momentum', .1)
        if issubclass(cls, EMAHook) and not (isinstance(
                momentum, (int, float)) and 0 < momentum < 1):
            raise Refused(
                f'{path}.momentum={momentum!r}: the share of the new weights '
                'in an average is expected, above 0 and below 1, as 0.0001 '
                'where other libraries have a decay of 0.9999')


def check_best(cfg):
    """Refuse a number to choose or to stop by whose prefix no metric has.

    Which numbers a metric gives is known when it has given them.

    Args:
        cfg (Config): of a run that trains.

    Raises:
        Refused: naming the prefixes of the metrics.
    """
    metrics, classes = _metrics(cfg)
    if not all(isclass(c) and issubclass(c, BaseMetric) for c in classes):
        return
    prefixes = [
        metric.get('prefix') or cls.default_prefix
        for metric, cls in zip(metrics, classes)
    ]
    for path, key in _named_numbers(cfg):
        if not isinstance(key, str):
            raise Refused(f'{path}={key!r}: the name of a number of the '
                          'evaluation is expected')
        if key != 'auto' and all(prefixes) and prefixes and not (
                key.startswith(tuple(f'{p}/' for p in prefixes))):
            raise Refused(
                f'{path}={key!r}: the metrics of val_evaluator are called '
                f'{", ".join(f"{p}/..." for p in prefixes)}')


def check_within(cfg, iterations=None):
    """Refuse what would first act after the end of the run.

    Args:
        cfg (Config): of a run that trains.
        iterations (int): in an epoch; None if that is not known yet.

    Raises:
        Refused: naming the setting and the length of the run.
    """
    length = _length(cfg.train_cfg, iterations)
    for path, value, unit, needed in _beginnings(cfg):
        if length[unit] is not None and needed > length[unit]:
            raise Refused(
                f'{path}={value} has no effect in a run of {length[unit]:g} '
                f'{unit}: set it to less, or train longer')


def check_custom_keys(cfg, model):
    """Check that each of `paramwise_cfg.custom_keys` is part of a name.

    The log says which are not; refused are those that change more than weight
    decay and are not of a host library's file. Such lists are written for
    several networks.

    Args:
        cfg (Config): of a run that trains.
        model (nn.Module): built from it.

    Raises:
        Refused: naming the keys.
    """
    groups = cfg.optim_wrapper.get('paramwise_cfg') or {}
    keys = groups.get('custom_keys') or {}
    names = [name for name, _ in model.named_parameters()]
    absent = [key for key in keys if not any(key in name for name in names)]
    if not absent:
        return
    stock = words_of_libraries(cfg.filename)
    wrong = [
        key for key in absent if {*keys[key]} - {'decay_mult'} and not all(
            part in stock for part in key.split('.') if not part.isdecimal())
    ]
    where = 'optim_wrapper.paramwise_cfg.custom_keys: no parameter has in its'
    if wrong:
        raise Refused(f'{where} name {" or ".join(wrong)}')
    log.info(f'{where} name {" or ".join(absent)}')


def _hooks(cfg):
    """(dotted path, config, class) of each hook of a run."""
    default = dict(cfg.get('default_hooks') or {})
    paths = {f'default_hooks.{name}': hook for name, hook in default.items()}
    for name, hook in openmmlab.DEFAULT_HOOKS.items():
        if name not in default:
            paths[f"default_hooks.{name}, mmengine's own"] = dict(type=hook)
    for index, hook in enumerate(cfg.get('custom_hooks') or ()):
        paths[f'custom_hooks.{index}'] = hook
    for path, hook in paths.items():
        cls = hook and class_of(hook, cfg)
        if cls:
            yield path, hook, cls


def _named_numbers(cfg):
    """(dotted path, name) of each number of the evaluation in the hooks."""
    for path, hook, cls in _hooks(cfg):
        for base, setting in NAMING.items():
            names = hook.get(setting) if issubclass(cls, base) else ()
            many = isinstance(names, (list, tuple))
            for name in names if many else [names] if names else ():
                yield f'{path}.{setting}', name
    for index, schedule in enumerate(_schedules(cfg)):
        if 'ReduceOnPlateau' in str(schedule['type']):
            yield (f'param_scheduler.{index}.monitor',
                   schedule.get('monitor', 'loss'))


def _check_metrics(cfg):
    """Refuse two metrics that give numbers of the same names.

    Those of the host libraries name theirs after their settings.
    """
    seen = set()
    for metric, cls in zip(*_metrics(cfg)):
        if not (isclass(cls) and cls.__module__.startswith('mmfd.')):
            continue
        name = cls, metric.get('prefix')
        if name in seen:
            raise Refused(f'val_evaluator has {cls.__name__} twice, whose '
                          'numbers would have the same names: set another '
                          'prefix for one, or take it out')
        seen.add(name)


def _metrics(cfg):
    """The configs of the metrics of a run, and their classes: two lists."""
    metrics = cfg.get('val_evaluator') or []
    metrics = metrics if isinstance(metrics, list) else [metrics]
    return metrics, [isinstance(m, dict) and class_of(m, cfg) for m in metrics]


def _check_schedule(cfg, hooks):
    ours = [path for path, _, hook in hooks if hook is WarmupCosineHook]
    theirs = [
        p for p, _, hook in hooks if issubclass(hook, ParamSchedulerHook)
    ]
    if cfg.get('param_scheduler') and ours:
        raise Refused(
            f'two learning-rate schedules: param_scheduler and {ours[0]}, '
            'which is mmfd.WarmupCosineHook. Set warmup_epochs, warmup_lr and '
            'min_lr of the hook, and param_scheduler=None; or replace the '
            "hook: default_hooks.param_scheduler=dict(_delete_=True, type='"
            "ParamSchedulerHook')")
    if cfg.get('param_scheduler') and not theirs:
        raise Refused(
            'nothing reads param_scheduler: default_hooks.param_scheduler, '
            'which applies it, is no ParamSchedulerHook')
    if ours and (cfg.get('auto_scale_lr') or {}).get('enable'):
        raise Refused(
            f'the learning rate would be scaled twice: auto_scale_lr and '
            f'{ours[0]}, which is mmfd.WarmupCosineHook, both multiply it by '
            'the batch. Take out auto_scale_lr, and set `images` of the hook '
            'to the batch that the lr is stated for')


def _check_preprocessor(cfg):
    """The host reads `data_preprocessor` only if the model has none."""
    read = cfg.model.get('data_preprocessor')
    if not read or 'data_preprocessor' not in assigned_by_user(cfg.filename):
        return
    read = {**(cfg.model.get('normalize') or {}), **read}
    for key, value in cfg.data_preprocessor.items():
        if key != 'type' and read.get(key, value) != value:
            raise Refused(
                f'nothing reads data_preprocessor.{key}={value}, as the model '
                f'has {key}={read[key]}: set that of the model')


def _length(train_cfg, per_epoch):
    """The run in epochs and in iterations, each None if it is not known."""
    epochs, iterations = train_cfg.get('max_epochs'), train_cfg.get(
        'max_iters')
    if epochs and per_epoch:
        iterations = epochs * per_epoch
    return dict(epochs=epochs, iterations=iterations)


def _beginnings(cfg):
    """(dotted path, value, unit, length that the run needs) of settings."""
    train_cfg = cfg.train_cfg
    unit = 'epochs' if train_cfg.get('max_epochs') else 'iterations'
    if cfg.get('val_cfg') is not None:
        begin = train_cfg.get('val_begin', 1)
        yield 'train_cfg.val_begin', begin, unit, begin
        last = 0
        for pair in train_cfg.get('dynamic_intervals') or ():
            if not isinstance(
                    pair, (list, tuple)) or len(pair) != 2 or pair[0] <= last:
                raise Refused(
                    f'train_cfg.dynamic_intervals={pair!r}: pairs are '
                    'expected, of the epoch or iteration from which on an '
                    'interval counts, the first one first, and the interval, '
                    'as [(90, 1)]')
            last = pair[0]
            yield 'train_cfg.dynamic_intervals', pair, unit, pair[0]
    for path, hook, cls in _hooks(cfg):
        if issubclass(cls, WarmupCosineHook):
            warmup = hook.get('warmup_epochs', 0)
            yield f'{path}.warmup_epochs', warmup, 'epochs', warmup
        for key, unit in BEGINNINGS.get(cls.__name__, {}).items():
            if hook.get(key):
                yield f'{path}.{key}', hook[key], unit, hook[key] + 1
        if issubclass(cls, CheckpointHook):
            begin, unit = hook.get('save_begin') or 0, _unit(hook)
            yield f'{path}.save_begin', begin, unit, begin
            if not (hook.get('save_last', True) or hook.get('save_best')):
                interval = hook.get('interval', -1)
                yield f'{path}.interval', interval, unit, interval
    for index, schedule in enumerate(_schedules(cfg)):
        path, unit = f'param_scheduler.{index}', _unit(schedule)
        begin, end = schedule.get('begin') or 0, schedule.get('end') or 0
        yield f'{path}.begin', begin, unit, begin + 1
        if _is_warmup(schedule):
            yield f'{path}.end', end, unit, end


def _unit(part):
    """What a hook or a schedule counts in."""
    return 'epochs' if part.get('by_epoch', True) else 'iterations'


def _schedules(cfg):
    schedules = cfg.get('param_scheduler') or ()
    if isinstance(schedules, dict):  # one, or those of several optimizers
        schedules = [schedules] if 'type' in schedules else ()
    return schedules


def _is_warmup(schedule):
    name = schedule['type']
    name = name if isinstance(name, str) else name.__name__
    return name.rpartition('.')[2] in WARMUPS and (schedule.get(
        'start_factor', 0) < schedule.get('end_factor', 1))
