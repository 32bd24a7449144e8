"""What a checkpoint must hold for a run to go on from it.

The functions here return descriptions, in the words of `schema`, of parts of a
checkpoint: of those that every run has, and of what depends on the model,
optimizer, schedules and hooks of this run.
"""
from collections import defaultdict
from math import isfinite

import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import optim

from mmfd.errors import Refused
from mmfd.hosts import pytorch
from mmfd.training import schema
from mmfd.training.loop import ResumableLoop
from mmfd.training.schema import (FLAG, NOTHING, NUMBER, PLAIN, TEXT, Entries,
                                  Fields, Value, listed, number, whole)
from mmfd.weights.provenance import FINGERPRINT

# Key of a checkpoint that does not name its hooks -> whose state is there
OWNERS = dict(ema_state_dict='EMAHook')

COUNT = whole('a whole number, 0 or more')
LENGTH = whole('a whole number, 1 or more', least=1)
FRACTION = Value('a fraction',
                 lambda value: isinstance(value, float))  # or NaN
POSITIVE = number('a finite number, 0 or more', least=0)
SHARE = number('a number from 0 on and below 1', least=0, below=1)
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
    dict({FINGERPRINT: TEXT},
         model=TEXT,
         seed=Value(
             'None or a whole number from 0 on and below 2^32', lambda value:
             value is None or type(value) is int and 0 <= value < 1 << 32),
         epoch_length=LENGTH,
         time=TEXT,
         run=TEXT,
         starts=COUNT,
         hooks=NAMES,
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

# What an optimizer is set to: the ranges of PyTorch's constructors
SETTINGS = dict(
    lr=POSITIVE,
    initial_lr=POSITIVE,
    eps=POSITIVE,
    weight_decay=POSITIVE,
    momentum=POSITIVE)
OPTIONAL = {'initial_lr', 'param_names'}  # not in every file
NOT_NEGATIVE = {  # of what an optimizer keeps
    'step', 'exp_avg_sq', 'max_exp_avg_sq', 'square_avg', 'acc_delta', 'sum'
}
SCALER = Fields(
    dict(
        scale=number('a number above 0', least=1e-30),
        growth_factor=number('a number above 1', least=1 + 1e-6),
        backoff_factor=SHARE,
        growth_interval=LENGTH,
        _growth_tracker=COUNT),
    empty=True)


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
    description = Fields(
        dict(
            message_hub=Fields(
                dict(
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
    model = runner.model
    model = model.module if is_model_wrapper(model) else model
    names = {param: name for name, param in model.named_parameters()}
    description = Fields(
        dict(
            meta=Fields(dict(iter=_position(checkpoint['meta'], runner))),
            state_dict=Fields(  # buffers may be masks of infinite numbers
                optional=dict.fromkeys(names.values(), WEIGHT)),
            optimizer=optimizer_state(runner.optim_wrapper, names)))
    if runner.param_schedulers is not None:
        description.required['param_schedulers'] = _schedulers(runner)
    if 'ema_state_dict' in checkpoint:
        description.required['ema_state_dict'] = _averages(
            checkpoint['state_dict'])
    schema.check(checkpoint, description, path, _advice(path))
    versions = pytorch.module_versions(checkpoint['state_dict'])
    schema.check(versions, VERSIONS, f'{path}: of the weights', _advice(path))


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
        return schema.tensor(value.shape, name)
    return Value(
        f'a tensor {(*value.shape, )} of {value.dtype}',
        lambda other: torch.is_tensor(other) and (other.shape, other.dtype) ==
        (value.shape, value.dtype))


def optimizer_state(wrapper, names):
    """Describe the state of an optimizer, or of several by name.

    Args:
        wrapper (OptimWrapper | OptimWrapperDict): of the run.
        names (dict): parameter -> its name, for messages.

    Returns:
        Fields
    """
    if isinstance(wrapper, OptimWrapperDict):
        return Fields(
            {
                name: optimizer_state(each, names)
                for name, each in wrapper.items()
            },
            others=NOTHING)
    optimizer, groups, state = wrapper.optimizer, [], {}
    for group in optimizer.param_groups:
        numbers = range(len(state), len(state) + len(group['params']))
        groups.append(_settings(group, numbers))
        kept = _KeptState(optimizer, group)
        for param in group['params']:
            state[len(state)] = kept.description(param, names.get(param, '?'))
    return Fields(
        dict(
            state=Fields(optional=state, others=NOTHING, keys=int),
            param_groups=Entries(groups)),
        dict(
            loss_scaler=SCALER,
            base_param_settings=_settings(optimizer.defaults)),
        others=PLAIN)


def _settings(example, numbers=None):
    """Describe the settings of a parameter group.

    Args:
        example (dict): the run's; what is None or a bool there, as `fused`, is
            never read from a file (`keep_flags`).
        numbers (range): of its parameters.
    """
    settings = {
        name: _setting(name, value)
        for name, value in example.items() if name != 'params'
    }
    optional = dict(SETTINGS, params=PLAIN)
    optional.update((name, settings.pop(name)) for name in [*settings]
                    if name in OPTIONAL or _is_flag(example[name]))
    required = settings
    if numbers is not None:
        required['params'] = Value(
            f'the numbers of {len(numbers)} parameters from {numbers.start} '
            'on', lambda value: isinstance(value, list) and all(
                type(n) is int for n in value) and value == [*numbers])
    return Fields(required, optional, others=PLAIN)


def _setting(name, example):
    if name == 'betas':
        return Entries([SHARE] * len(example))
    if _is_flag(example):
        return schema.ANYTHING
    is_number = isinstance(example, (int, float))
    return SETTINGS.get(name) if is_number and name in SETTINGS else (
        schema.like(example))


def _is_flag(value):
    return value is None or isinstance(value, bool)


class _KeptState:
    """What an optimizer keeps for a parameter, found by one step on zeros.

    Args:
        optimizer (Optimizer): of any class; it stays as it is.
        group (dict): one of its groups.
    """

    def __init__(self, optimizer, group):
        self.optimizer, self.group = optimizer, group
        self.kept = {}  # shape and type of a parameter -> its state

    def description(self, param, name):
        """Describe the state of a parameter; it is empty before any step."""
        key = param.shape, param.dtype, param.device
        if key not in self.kept:
            self.kept[key] = self._take(*key)
        return Fields(
            {
                kept: self._of(kept, value, param, name)
                for kept, value in self.kept[key].items()
            },
            others=PLAIN,
            empty=True)

    def _take(self, shape, dtype, device):
        param = torch.zeros(
            shape, dtype=dtype, device=device, requires_grad=True)
        param.grad = torch.zeros_like(param)
        scratch = scratch_copy(self.optimizer,
                               [dict(self.group, params=[param])])
        type(scratch).step(scratch)
        return dict(scratch.state[param])

    def _of(self, kept, value, param, name):
        least = 0 if kept in NOT_NEGATIVE else -float('inf')
        if isinstance(value, torch.Tensor) and value.ndim == 0:
            value = 0.  # a count of steps, which may come as either
        if isinstance(value, torch.Tensor):
            like = f'{name} is' if value.shape == param.shape else (
                f'this optimizer keeps it for {name}')
            return schema.tensor(value.shape, like, least)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return number(
                f'a finite number{", 0 or more" * (least == 0)}', least=least)
        return PLAIN


def scratch_copy(optimizer, groups):
    """An optimizer of the same class and settings, without state and hooks.

    Its class need not be called: each has a constructor of its own.
    """
    scratch = object.__new__(type(optimizer))
    blank = optim.SGD([torch.zeros(1)])
    scratch.__dict__ = {
        **vars(optimizer),
        **{
            k: v
            for k, v in vars(blank).items() if 'hooks' in k
        },
        'state': defaultdict(dict),
        'param_groups': groups,
    }
    scratch.__dict__.pop('step', None)  # a schedule may have put it there
    return scratch


def optimizers(wrapper):
    """The optimizers that a wrapper, or one of several, holds: a list."""
    if isinstance(wrapper, OptimWrapperDict):
        return [each.optimizer for each in wrapper.values()]
    return [wrapper.optimizer]


def keep_flags(optimizer, state_dict):
    """Take from the run how a step is computed: `fused`, `amsgrad`, ...

    A hook on loading an optimizer's state, which would take all from the
    file: another machine may not have what is asked for there.
    """
    groups = [
        dict(saved, **{
            k: v
            for k, v in ours.items() if _is_flag(v)
        }) for saved, ours in zip(state_dict['param_groups'],
                                  optimizer.param_groups)
    ]
    return dict(state_dict, param_groups=groups)


def _schedulers(runner):
    """Describe the states of the schedules, from those that would begin."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers
    try:
        runner.optim_wrapper = _scratch_wrapper(wrapper)
        built = runner.build_param_scheduler(schedulers)
    finally:
        runner.optim_wrapper = wrapper
    if isinstance(built, dict):
        return Fields({
            name: _states(each)
            for name, each in built.items()
        },
                      others=NOTHING)
    return _states(built)


def _scratch_wrapper(wrapper):
    if isinstance(wrapper, OptimWrapperDict):
        return OptimWrapperDict(**{
            name: _scratch_wrapper(each)
            for name, each in wrapper.items()
        })
    groups = [
        dict(group, params=[torch.zeros(1)])
        for group in wrapper.optimizer.param_groups
    ]
    return OptimWrapper(scratch_copy(wrapper.optimizer, groups))


def _states(schedulers):
    return Entries([
        Fields(
            optional={
                name: schema.like(value)
                for name, value in scheduler.state_dict().items()
                if not callable(value)
            },
            others=NOTHING) for scheduler in schedulers
    ])


def leave_out_functions(schedules):
    """Take functions out of the states of schedules, which no file holds.

    `OneCycleLR` has one; whoever resumes has it from its own config.

    Args:
        schedules (list | dict): as the host saves them; changed in place.
    """
    states = schedules if isinstance(schedules, list) else [
        state for each in schedules.values() for state in each
    ]
    for state in states:
        for name in [key for key in state if callable(state[key])]:
            del state[name]


def _advice(path):
    return (f'No run can go on from it: name another checkpoint with --resume '
            f'PATH, or start anew from its weights: {_anew(path)}')


def _anew(path):
    return f'--cfg-options load_from={path}, without --resume'
