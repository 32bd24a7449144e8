"""The settings that the numbers of a run depend on, as checkpoints hold them.

What a model is must stay the same when a run is resumed; how it is trained
may be changed, and is said.
"""
import json

from mmengine.dist import get_world_size

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
        before = dict(_values(json.loads(before)))
    except (ValueError, RecursionError):
        return []
    now = dict(_values(json.loads(now)))
    return [
        f'{path} was {before.get(path)!r}, is {now.get(path)!r}'
        for path in sorted({*before, *now})
        if before.get(path) != now.get(path)
    ]


def _values(node, path=''):
    """(dotted path, value) of all that is no dict or list."""
    if isinstance(node, dict):
        pairs = node.items()
    elif isinstance(node, list):
        pairs = enumerate(node)
    else:
        yield path, node
        return
    for key, value in pairs:
        yield from _values(value, f'{path}.{key}' if path else str(key))
