"""The project's configs, each read and built once, for tests of all."""
import copy
from functools import cache
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmfd.hosts import mmcv_ops
from mmfd.registry import branches_of
from mmfd.weights.meta_device import LinspaceOnCPU

mmcv_ops.install()  # before mmdet is imported
TABLES = ('fd', 'classification', 'ade20k', 'coco')  # folders with results


def leaves(*folders):
    """Paths of the configs in folders of `configs/`; without one, of all."""
    return sorted(
        str(path) for folder in folders or (*TABLES, 'demo')
        for path in Path('configs', folder).glob('*.py'))


def load(leaf):
    """A config, to be changed at will."""
    return copy.deepcopy(_read(str(leaf)))


@cache
def _read(leaf):
    return Config.fromfile(leaf)


def check_all(check, cases):
    """Call `check` with every case, and name each case that fails it.

    So one test can be about all configs, and its message about each of them.
    """
    wrong = []
    for case in cases:
        try:
            check(case)
        except Exception as error:
            wrong.append(f'{case}: {type(error).__name__}: {error}')
    assert not wrong, '\n'.join(wrong)


def without_files(model):
    """A model's config with random weights in the place of all files."""
    for branch in branches_of(model).values():
        for part in branch.teacher, branch.teacher.neck:
            if 'checkpoint' in part:
                part.checkpoint = 'random'
                part.pop('source', None)
    if model.backbone.get('init_cfg'):
        model.backbone.init_cfg = None
    return model


_BUILT = {}  # many configs have the same model


def on_meta_device(cfg):
    """The model of a config at full size, without memory for its weights."""
    model = without_files(cfg.model)
    scope = cfg.get('default_scope') or 'mmpretrain'
    key = scope, repr(model)
    if key not in _BUILT:
        with torch.device('meta'), LinspaceOnCPU(), \
                DefaultScope.overwrite_default_scope(scope):
            _BUILT[key] = MODELS.build(model)
    return _BUILT[key]


def parameters(module):
    return sum(p.numel() for p in module.parameters())
