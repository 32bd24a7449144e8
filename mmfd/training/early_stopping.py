"""Runs that the host's EarlyStoppingHook ends: what it has counted is kept.

Otherwise a resumed run would end later than one that was never stopped.
"""
from mmengine.hooks import EarlyStoppingHook

from mmfd.errors import Refused
from mmfd.hosts import log


def counts(hooks):
    """What the host's hooks have counted, to be written into a checkpoint.

    Args:
        hooks (list[Hook]): of a run.

    Returns:
        dict: `monitor` of a hook -> evaluations without an improvement, and
        the best number so far.
    """
    return {
        hook.monitor:
        dict(waited=hook.wait_count, best=float(hook.best_score))
        for hook in _stopping(hooks)
    }


def go_on(hooks, before):
    """Let hooks count on from what `counts` has returned.

    Args:
        hooks (list[Hook]): of a run; changed in place.
        before (dict): of a checkpoint.
    """
    for hook in _stopping(hooks):
        if hook.monitor in before:
            count = before[hook.monitor]
            hook.wait_count, hook.best_score = count['waited'], count['best']
        else:
            log.warn(f'EarlyStoppingHook of {hook.monitor} counts from '
                     'nothing, as the checkpoint is of a run without it')


def check(hooks, metrics):
    """Refuse to wait for a number that no evaluation measures.

    Args:
        hooks (list[Hook]): of a run.
        metrics (dict): what an evaluation has measured.

    Raises:
        Refused: naming what was measured.
    """
    for hook in _stopping(hooks):
        if hook.monitor not in metrics:
            raise Refused(
                f'EarlyStoppingHook has monitor={hook.monitor!r}: the '
                f'evaluation measured {", ".join(sorted(metrics))}; name one '
                'of them')


def _stopping(hooks):
    return [hook for hook in hooks if isinstance(hook, EarlyStoppingHook)]
