"""Refuse settings of a DataLoader that exclude each other or what it is for.

PyTorch says so with an error while the data sets are built, which could as
well be of the data.
"""
import warnings

from mmengine.registry import FUNCTIONS
from torch.utils.data import DataLoader

from mmfd.errors import Refused

NEEDED = 'dataset', 'sampler'  # by mmengine
# What mmengine builds or reads, and does not pass on as it is
BUILT = {
    *NEEDED, 'batch_sampler', 'collate_fn', 'worker_init_fn',
    'num_batch_per_epoch', 'disable_subprocess_warning'
}
FUNCTIONS_OF_LOADERS = 'collate_fn', 'worker_init_fn'
# Settings that a sampler takes over, and which one it is
OF_SAMPLERS = dict(shuffle='sampler', drop_last='batch_sampler')


def check(cfg):
    """Ask PyTorch whether the settings of each loader go together.

    Args:
        cfg (Config): of a whole run, as `parallel_config.adapt` leaves it.

    Raises:
        Refused: naming the loader, and what excludes what.
    """
    for loop in 'train', 'val', 'test':
        loader = cfg.get(f'{loop}_dataloader')
        if loader:
            _check(f'{loop}_dataloader', loader)


def _check(name, loader):
    for key in FUNCTIONS_OF_LOADERS:
        function = loader.get(key) or {}
        if not isinstance(function, dict):
            raise Refused(f'{name}.{key} is {function!r}: a dict is expected, '
                          "such as dict(type='default_collate')")
        function = function.get('type')
        if isinstance(function, str) and FUNCTIONS.get(function) is None:
            raise Refused(f'{name}.{key}: no function is called {function!r}')
    grouped = loader.get('batch_sampler') is not None
    needed = [*NEEDED, *['batch_size'] * grouped]
    lacking = [key for key in needed if key not in loader]
    if lacking:
        raise Refused(f'{name} has no {" and no ".join(lacking)}')
    built = BUILT | {'batch_size'} if grouped else BUILT
    settings = {k: v for k, v in loader.items() if k not in built}
    if grouped:
        settings['batch_sampler'] = [[0]]
    elif loader.sampler is not None:
        settings['sampler'] = [0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # they come again
            DataLoader([0], **settings)
    except ValueError as error:
        for key, sampler in OF_SAMPLERS.items():
            if settings.get(key) and loader.get(sampler) is not None:
                raise Refused(
                    f'{name}.{key}={settings[key]}: {name}.{sampler} decides '
                    f'that, so take it out, or set {sampler}.{key} if '
                    f'{loader[sampler].get("type")} has it') from error
        raise Refused(f'{name}: {error}') from error
    if settings.get('drop_last') and not name.startswith('train'):
        raise Refused(f'{name}.drop_last=True leaves images out of what is '
                      'measured: take it out')
