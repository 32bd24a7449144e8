"""Step the host's schedules through a run, before it begins.

Whether they can be stepped to its end, and what they make of the learning
rate, is known only then: `T_max` of epochs beside `by_epoch=False`, milestones
beyond the run and steps that are counted twice are numbers like others.
"""
from mmfd.hosts import log, openmmlab
from mmfd.training import optimizer_schema


def check(runner):
    """Step the schedules, and say which values they give.

    Those that wait for numbers of the evaluation are built alone.

    Args:
        runner (Runner): with its loops and optimizer, not trained yet.

    Raises:
        Exception: the host's, of any kind, if they cannot be built or stepped.
    """
    if not runner.param_schedulers:
        return
    optimizer_schema.scratch_schedules(runner)
    built = optimizer_schema.scratch_schedules(runner, _group_of_highest_rate)
    for schedules in built.values() if isinstance(built, dict) else [built]:
        if any(hasattr(each, 'need_val_args') for each in schedules):
            continue
        for name in sorted({each.param_name for each in schedules}):
            _say(name, [s for s in schedules if s.param_name == name], runner)


def _group_of_highest_rate(groups):
    """One group is enough: the others have multiples of its rate."""
    return [max(groups, key=lambda group: group['lr'])]


def _say(name, schedules, runner):
    values = [*_values(name, schedules, runner)]
    first, most, last = values[0], max(values), values[-1]
    text = (f'{name}: {first:g} at first, {most:g} at most, {last:g} at the '
            'end, by param_scheduler')
    if min(values) == most:
        log.warn(f'{text}, which never changes it within this run: look at '
                 'its by_epoch, begin and milestones')
    elif name == 'lr' and last > most / 2:
        log.warn(f'{text}: it does not fall to half of its highest value '
                 'within this run, or rises again; look at its T_max, end and '
                 'by_epoch')
    else:
        log.info(text)


def _values(name, schedules, runner):
    """Yield the value for each iteration, or for each epoch if they agree."""
    group = schedules[0].optimizer.param_groups[0]
    of_epochs = [each for each in schedules if each.by_epoch]
    of_iterations = [each for each in schedules if not each.by_epoch]
    for each in schedules:
        each.verbose = False
        openmmlab.let_schedules_step(each.optimizer)
    length = runner.max_iters // runner.max_epochs if of_iterations else 1
    for _ in range(runner.max_epochs):
        for _ in range(length):
            yield group[name]
            for each in of_iterations:
                each.step()
        for each in of_epochs:
            each.step()
