"""What a checkpoint must hold for a run to go on from it.

Descriptions, in the words of `schema`, of what every run has, and of what
depends on the model and hooks of this run. `optimizer_schema` describes its
optimizer and schedules.
"""
from math import isfinite

import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from mmfd.errors import Refused
from mmfd.hosts import openmmlab, pytorch
from mmfd.training import optimizer_schema, schema
from mmfd.training.loop import ResumableLoop
from mmfd.training.lr_schedule import WarmupCosineHook
from mmfd.training.schema import (COUNT, FLAG, LENGTH, NOTHING, NUMBER, PLAIN,
                                  TEXT, Fields, Value, listed, number, whole)
from mmfd.weights.provenance import fingerprint_key

# Key of a checkpoint that does not name its hooks -> whose state is there
OWNERS = dict(ema_state_dict='EMAHook')

FRACTION = Value('a fraction',
                 lambda value: isinstance(value, float))  # or NaN
NUMBERS = listed(
    Value('a finite number',
          lambda value: isinstance(value, float) and isfinite(value)),
    'a list of finite fractions')
NAMES = listed(
    Value(
        'a name', lambda value: isinstance(value, str) and value.isidentifier(
        ) and len(value) < 100), 'a list of names of classes')
CURVE = Value(
    'a log history: as many numbers as counts, one or more',
    lambda value: isinstance(value, HistoryBuffer) and all(
        part.ndim == 1 and part.size and part.dtype.kind in 'if'
        for part in value.data) and len({*map(len, value.data)}
                                        ) == 1 and value.max_length > 0)
WEIGHT = Value(
    'a tensor of finite numbers',
    lambda value: isinstance(value, torch.Tensor) and value.layout is torch.
    strided and schema.is_finite(value))

VERSIONS = Fields(  # of modules; PyTorch keeps them beside the weights
    others=Fields(
        optional=dict(
            version=Value('None or a whole number',
                          lambda value: value is None or type(value) is int)),
        others=PLAIN))

META = Fields(
    dict(epoch=COUNT, iter=COUNT),
    dict({fingerprint_key(''): TEXT},
         model=TEXT,
         seed=Value(
             'None or a whole number from 0 on and below 2^32', lambda value:
             value is None or type(value) is int and 0 <= value < 1 << 32),
         epoch_length=LENGTH,
         time=TEXT,
         run=TEXT,
         starts=COUNT,
         hooks=NAMES,
         schedule=TEXT,
         early_stopping=Fields(
             others=Fields(dict(waited=COUNT, best=FRACTION))),
         settings=TEXT,
         unstepped=listed(TEXT, 'a list of names of parameters'),
         parameters=listed(TEXT, 'a list of names of parameters'),
         images=Fields(dict(number=LENGTH, sum=TEXT)),
         outdated=listed(TEXT, 'a list of names of files'),
         nan_guard=Fields(
             dict(losses=NUMBERS, skipped=COUNT, scaler_skipped=COUNT)),
         verdict=Fields(
             dict(seen=NUMBERS, teacher=NUMBERS),
             dict(loss=FRACTION, warned=listed(TEXT, 'a list of texts')))),
    others=PLAIN)
RUNTIME_INFO = Fields(
    optional={
        'evaluated':
        COUNT,
        'eta':
        NUMBER,
        'loop_stage':
        TEXT,
        'keep_ckpt_ids':
        listed(COUNT, 'a list of whole numbers'),
        'last_ckpt':
        TEXT,
        'best_ckpt*':
        Value('None or text',
              lambda value: value is None or isinstance(value, str)),
        'best_score*':
        NUMBER,
    },
    others=PLAIN)
# Everything that resuming reads, without what depends on the run
CHECKPOINT = Fields(
    dict(
        meta=META,
        state_dict=Fields(others=Value('a tensor', torch.is_tensor)),
        message_hub=Fields(
            dict(
                log_scalars=Fields(others=CURVE),
                runtime_info=RUNTIME_INFO,
                resumed_keys=Fields(others=FLAG))),
        optimizer=Value('the state of an optimizer, a dict',
                        lambda value: isinstance(value, dict))))


def check_file(checkpoint, path):
    """Check what needs no model: types and ranges.

    Args:
        checkpoint (dict): as `mmengine_reader.load_for_mmengine` returns it.
        path (str): of its file.

    Raises:
        Refused: names the first entry that does not fit.
    """
    schema.check(checkpoint, CHECKPOINT, path, _advice(path))
    hub = checkpoint['message_hub']
    kept = {**hub['log_scalars'], **hub['runtime_info']}
    resumed = Value('True, as it is there', lambda value: value is True)
    epoch = checkpoint['meta']['epoch']
    evaluated = whole(f'0 to {epoch}, the epochs done', below=epoch + 1)
    description = Fields(
        dict(
            message_hub=Fields(
                dict(
                    runtime_info=Fields(optional=dict(evaluated=evaluated)),
                    resumed_keys=Fields(
                        optional=dict.fromkeys(kept, resumed))))))
    schema.check(checkpoint, description, path, _advice(path))


def check_run(checkpoint, path, runner):
    """Check what a run would load, against its model, optimizer and hooks.

    Args:
        checkpoint (dict): that `check_file` has passed.
        path (str): of its file.
        runner (Runner): with loops and optimizer built.

    Raises:
        Refused: names the first entry that does not fit, or the hook whose
            state is missing or has no owner.
    """
    _check_hooks(checkpoint, path, runner)
    _check_schedule(checkpoint, path, runner)
    names = names_of_parameters(runner)
    description = Fields(
        dict(
            meta=Fields(
                dict(iter=_position(checkpoint['meta'], runner)),
                dict(parameters=_numbered(runner, names))),
            state_dict=Fields(  # buffers may be masks of infinite numbers
                optional=dict.fromkeys(names.values(), WEIGHT)),
            optimizer=optimizer_schema.optimizer_state(
                runner.optim_wrapper, names,
                checkpoint['meta'].get('unstepped'))))
    if runner.param_schedulers is not None:
        description.required['param_schedulers'] = optimizer_schema.schedules(
            runner)
    if 'ema_state_dict' in checkpoint:
        description.required['ema_state_dict'] = _averages(
            checkpoint['state_dict'])
    schema.check(checkpoint, description, path, _advice(path))
    versions = pytorch.module_versions(checkpoint['state_dict'])
    schema.check(versions, VERSIONS, f'{path}: of the weights', _advice(path))


def names_of_parameters(runner):
    """Parameter -> its name in the model of a run."""
    model = openmmlab.unwrapped(runner.model)
    return {param: name for name, param in model.named_parameters()}


def stateful_hooks(hooks):
    """Sorted names of the hooks whose state a run needs to go on.

    A hook has a state if it writes into checkpoints and reads from them; those
    of mmfd write notes that a run can do without. Its name is that of the
    class that began to write, so that a subclass can go on from what its base
    has written.
    """
    writers = (
        _first_with('before_save_checkpoint', hook) for hook in hooks
        if _first_with('after_load_checkpoint', hook))
    return sorted({
        cls.__name__
        for cls in writers if cls and not cls.__module__.startswith('mmfd.')
    })


def _first_with(method, hook):
    classes = [
        cls for cls in type(hook).__mro__
        if method in vars(cls) and cls is not Hook
    ]
    return classes[-1] if classes else None


def _check_hooks(checkpoint, path, runner):
    before = checkpoint['meta'].get('hooks')
    now = stateful_hooks(runner.hooks)
    if before is None:  # of a run that did not note them
        before = [OWNERS[key] for key in OWNERS if key in checkpoint]
        now = [name for name in now if name in OWNERS.values()]
    for name in sorted({*before} - {*now}):
        raise Refused(
            f'{path} is of a run with {name}, and this run has none, so it '
            f"would be another run: add dict(type='{name}') with its settings "
            f'to custom_hooks, or start anew from its weights: {_anew(path)}')
    for name in sorted({*now} - {*before}):
        raise Refused(
            f'{path} is of a run without {name}, so it holds no state for it: '
            'take it out of custom_hooks, or start anew from its weights: '
            f'{_anew(path)}')


def schedule_of(runner):
    """What sets the learning rate of a run: where a config has it."""
    if runner.param_schedulers:
        return 'param_scheduler'
    hook = any(isinstance(hook, WarmupCosineHook) for hook in runner.hooks)
    return 'mmfd.WarmupCosineHook' if hook else 'nothing'


def _check_schedule(checkpoint, path, runner):
    before, now = checkpoint['meta'].get('schedule'), schedule_of(runner)
    if before is None:  # of a run that did not note it
        before = 'param_scheduler' if checkpoint.get(
            'param_schedulers') else now
    if before != now:
        raise Refused(
            f'in the run of {path} {before} set the learning rate, in this '
            f'run {now} does, so it would be another run: resume it with the '
            f'schedule of its own config, or start anew from its weights: '
            f'{_anew(path)}')
    if runner.param_schedulers and 'param_schedulers' not in checkpoint:
        raise Refused(
            f'{path} does not say where param_scheduler was, as with '
            'default_hooks.checkpoint.save_param_scheduler=False. '
            f'{_advice(path)}')


def _position(meta, runner):
    """Describe the iteration, which lies in the epoch that `meta` names."""
    length = meta.get('epoch_length')
    if not length:
        return COUNT
    first = meta['epoch'] * length
    if not isinstance(runner.train_loop, ResumableLoop):
        return COUNT  # a loop by iterations has one long epoch
    return whole(
        f'{first} to {first + length}, in epoch {meta["epoch"]} of {length} '
        'iterations each',
        least=first,
        below=first + length + 1)


def _numbered(runner, names):
    """Describe the names of the parameters: moments have numbers alone."""
    expected = optimizer_schema.parameters(runner.optim_wrapper, names)
    return Value(
        "the names of this run's parameters in the order of its optimizer, by "
        'which moments are numbered', lambda value: [*value] == expected)


def _averages(state_dict):
    """Describe averaged weights: the model's, with other values."""
    weights = {
        f'module.{name}': _average(value, name)
        for name, value in state_dict.items()
    }
    steps = number('a count of steps', least=0)
    return Fields(dict(weights, steps=steps), others=NOTHING)


def _average(value, name):
    if value.is_floating_point() and schema.is_finite(value):
        return schema.tensor(value, name)
    return Value(
        f'a tensor {(*value.shape, )} of {value.dtype}',
        lambda other: torch.is_tensor(other) and (other.shape, other.dtype) ==
        (value.shape, value.dtype))


def _advice(path):
    return (f'No run can go on from it: name another checkpoint with --resume '
            f'PATH, or start anew from its weights: {_anew(path)}')


def _anew(path):
    return f'--cfg-options load_from={path}, without --resume'
