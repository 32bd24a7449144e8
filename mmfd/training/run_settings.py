"""The settings that the numbers of a run depend on, as checkpoints hold them.

What a model is must stay the same when a run is resumed; how it is trained
may be changed, and is said.
"""
import json

from mmengine.dist import get_world_size

from mmfd.hosts.config_tree import settings

SECTIONS = ('optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'train_cfg',
            'custom_hooks')
OF_LOADER = 'batch_size', 'sampler', 'batch_sampler', 'drop_last', 'collate_fn'


def of_run(cfg):
    """The settings of a run with this config: JSON."""
    loader = cfg.train_dataloader
    hooks = cfg.get('default_hooks') or {}
    found = {key: cfg.get(key) for key in SECTIONS}
    found['default_hooks'] = dict(param_scheduler=hooks.get('param_scheduler'))
    found['train_dataloader'] = dict(
        {key: loader.get(key)
         for key in OF_LOADER},
        dataset=dict(pipeline=loader.dataset.get('pipeline')))
    found['processes'] = get_world_size()
    return json.dumps(found, default=str)


def changes(before, now):
    """Sentences: what differs between two runs.

    Args:
        before, now (str): as `of_run` returns them; `before` may be any text.

    Returns:
        list[str]: empty if nothing differs, or `before` cannot be read.
    """
    try:
        before = _values(before)
    except (ValueError, RecursionError):
        return []
    now = _values(now)
    return [
        f'{path} was {before.get(path)!r}, is {now.get(path)!r}'
        for path in sorted({*before, *now})
        if before.get(path) != now.get(path)
    ]


def _values(text):
    """Dotted path -> value of all in a JSON text that is no dict or list."""
    return {
        path: value
        for path, value in settings(json.loads(text))
        if not isinstance(value, (dict, list))
    }
