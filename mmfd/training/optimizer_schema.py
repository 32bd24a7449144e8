"""What a checkpoint must hold of optimizers and learning-rate schedules.

Descriptions, in the words of `schema`: of the settings that a run's optimizer
has, of what it keeps for each parameter, and of its schedules.
"""
from collections import defaultdict

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import optim

from mmfd.training import schema
from mmfd.training.schema import (COUNT, LENGTH, NOTHING, PLAIN, Entries,
                                  Fields, Value, number)

POSITIVE = number('a finite number, 0 or more', least=0)
SHARE = number('a number from 0 on and below 1', least=0, below=1)
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


def optimizer_state(wrapper, names, unstepped=None):
    """Describe the state of an optimizer, or of several by name.

    Args:
        wrapper (OptimWrapper | OptimWrapperDict): of the run.
        names (dict): parameter -> its name.
        unstepped (list[str]): names of those for which nothing may be kept,
            as `unstepped` found them. None of a run that did not note them:
            then it may be any.

    Returns:
        Fields
    """
    if isinstance(wrapper, OptimWrapperDict):
        return Fields(
            {
                name: optimizer_state(each, names, unstepped)
                for name, each in wrapper.items()
            },
            others=NOTHING)
    optimizer, groups, stepped, rest = wrapper.optimizer, [], {}, {}
    for group in optimizer.param_groups:
        first = len(stepped) + len(rest)
        numbers = range(first, first + len(group['params']))
        groups.append(_settings(group, numbers))
        kept = _KeptState(optimizer, group)
        for index, param in zip(numbers, group['params']):
            name = names.get(param, '?')
            free = unstepped is None or name in unstepped
            (rest if free else stepped)[index] = kept.description(
                param, name, free)
    return Fields(
        dict(
            state=Fields(stepped, rest, others=NOTHING, keys=int),
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

    def description(self, param, name, empty):
        """Describe the state of a parameter.

        Args:
            param (Tensor), name (str): it and its name.
            empty (bool): whether it may be that of no step.
        """
        key = param.shape, param.dtype, param.device
        if key not in self.kept:
            self.kept[key] = self._take(*key)
        return Fields(
            {
                kept: self._of(kept, value, param, name)
                for kept, value in self.kept[key].items()
            },
            others=PLAIN,
            empty=empty,
            expected=f'what the optimizer keeps for {name}, a dict')

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
            return schema.tensor(value, like, least)
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


def parameters(wrapper, names):
    """Names of the parameters of an optimizer, in the order of their numbers.

    Args as of `unstepped`.

    Returns:
        list[str]
    """
    return [
        names.get(param, '?') for optimizer in optimizers(wrapper)
        for group in optimizer.param_groups for param in group['params']
    ]


def unstepped(wrapper, names):
    """Names of the parameters for which an optimizer keeps nothing.

    They are frozen, have never had a gradient, or it keeps nothing at all.

    Args:
        wrapper (OptimWrapper | OptimWrapperDict): of the run.
        names (dict): parameter -> its name.

    Returns:
        list[str]
    """
    return [
        names.get(param, '?') for optimizer in optimizers(wrapper)
        for group in optimizer.param_groups for param in group['params']
        if not optimizer.state.get(param)
    ]


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


def scratch_schedules(runner, choose=list):
    """The schedules of a run, of a copy of its optimizer without weights.

    Args:
        runner (Runner): not trained yet.
        choose (callable): parameter groups -> those that the copy has.

    Returns:
        list | dict: of the host's schedules, as the host builds them.
    """
    wrapper = runner.optim_wrapper
    try:
        runner.optim_wrapper = _scratch_wrapper(wrapper, choose)
        return runner.build_param_scheduler(runner.param_schedulers)
    finally:
        runner.optim_wrapper = wrapper


def schedules(runner):
    """Describe the states of the schedules, from those that would begin."""
    built = scratch_schedules(runner)
    if isinstance(built, dict):
        return Fields({
            name: _states(each)
            for name, each in built.items()
        },
                      others=NOTHING)
    return _states(built)


def _scratch_wrapper(wrapper, choose):
    if isinstance(wrapper, OptimWrapperDict):
        return OptimWrapperDict(**{
            name: _scratch_wrapper(each, choose)
            for name, each in wrapper.items()
        })
    groups = [
        dict(group, params=[torch.zeros(1)])
        for group in choose(wrapper.optimizer.param_groups)
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
