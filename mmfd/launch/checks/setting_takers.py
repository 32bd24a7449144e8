"""What takes each dict of a config.

A dict with a `type` is taken by the constructor of that class, a section
without one by what the host passes it to.
"""
import inspect
import re

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.runner import (EpochBasedTrainLoop, IterBasedTrainLoop,
                             LogProcessor, Runner, TestLoop, ValLoop)
from mmengine.utils.dl_utils import set_multi_processing
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

from mmfd.hosts.config_tree import dicts, outer_paths
from mmfd.launch import processes
from mmfd.launch.checks.constructor_arguments import source
from mmfd.launch.checks.type_names import find_class

# Sections of a config from which the Runner builds something
SECTIONS = {*inspect.signature(Runner).parameters} - {'cfg', 'work_dir'}
# What else is read at the top level of a config
TOP_LEVEL = SECTIONS | {
    'work_dir', 'compile', 'model_wrapper_cfg', 'find_unused_parameters',
    'activation_checkpointing', 'efficient_conv_bn_eval', 'sync_bn', 'source',
    'tta_model', 'tta_pipeline'
}
# What takes a section without a `type`: a class, a function or these keys
TAKERS = {
    'val_cfg': ValLoop,
    'test_cfg': TestLoop,
    'train_dataloader': DataLoader,
    'val_dataloader': DataLoader,
    'test_dataloader': DataLoader,
    'log_processor': LogProcessor,
    'randomness': Runner.set_randomness,
    'visualizer': Visualizer,
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'env_cfg.mp_cfg': set_multi_processing,
    'env_cfg.dist_cfg': processes.join,
    'auto_scale_lr': {'enable', 'base_batch_size'},
}
LOOPS = {True: EpochBasedTrainLoop, False: IterBasedTrainLoop}  # by_epoch
CLIPPING = dict(
    norm=torch.nn.utils.clip_grad_norm_, value=torch.nn.utils.clip_grad_value_)
# Keys that are read before the rest of a dict is passed on
OF_LOADERS = {'dataset', 'num_batch_per_epoch', 'disable_subprocess_warning'}
READ_BEFORE = {
    'train_dataloader': OF_LOADERS,
    'val_dataloader': OF_LOADERS,
    'test_dataloader': OF_LOADERS,
    'optim_wrapper': {'optimizer', 'constructor', 'paramwise_cfg'},
    'param_scheduler': {'convert_to_iter_based'},
}
# Transforms within which a `type` is not of OpenMMLab
FOREIGN = 'Albu', 'mmdet.Albu', 'Albumentations', 'mmpretrain.Albumentations'


def scope_of(cfg):
    """The library of names without one in a config."""
    return cfg.get('default_scope') or 'mmengine'


def class_of(node, cfg):
    """The class that a part of a config is built as; None if unknown.

    Args:
        node (dict): with `type`, a name or the class itself.
        cfg (Config): that it is in.
    """
    kind = node.get('type')
    return find_class(kind, scope_of(cfg)) if isinstance(kind, str) else kind


def parts_of(cfg):
    """(dotted path, dict, those around it) of every dict in the sections.

    Those around it are (dotted path, dict) too, the outer ones first. What
    `FOREIGN` transforms hold is left out.
    """
    found = dict(dicts({key: cfg.get(key) for key in sorted(SECTIONS)}))
    for path, node in found.items():
        around = [(outer, found[outer]) for outer in outer_paths(path)
                  if outer in found]
        if path and not any(
                outer.get('type') in FOREIGN for _, outer in around):
            yield path, node, around


def takers_of(path, node, cfg):
    """What may take a dict of a config.

    Args:
        path (str): dotted path of the dict.
        node (dict): the dict itself.
        cfg (Config): that it is in.

    Returns:
        list[type | callable | set]: any of them; a set is of the keys that are
        read. Empty where it is not known what takes the dict.
    """
    kind, scope = node.get('type'), scope_of(cfg)
    if path == 'optim_wrapper.clip_grad':
        clip = CLIPPING.get(kind or 'norm')
        takers = [clip] if clip else []
    elif path == 'optim_wrapper.paramwise_cfg':
        name = cfg.optim_wrapper.get('constructor')
        constructor = find_class(
            name, scope) if name else DefaultOptimWrapperConstructor
        takers = [_keys_read(constructor)] if constructor else []
    elif isinstance(kind, str):
        cls = find_class(kind, scope)
        takers = [cls] if cls else []
    elif kind is not None:
        takers = [kind]
    elif path == 'train_cfg':
        takers = [LOOPS[bool(node.get('by_epoch'))], {'by_epoch'}]
    elif path == 'optim_wrapper' and 'optimizer' in node:
        takers = [OptimWrapper]
    else:
        takers = [TAKERS[path]] if path in TAKERS else []
    before = READ_BEFORE.get(re.sub(r'\.\d+$', '', path))  # of a list, too
    return [*takers, before] if takers and before else takers


def _keys_read(constructor):
    """Keys that a constructor of an optimizer wrapper reads of its dict."""
    return {
        *re.findall(
            r"paramwise_cfg(?:\.get|\.pop|\.setdefault)?[(\[]\s*'(\w+)'",
            source(constructor)),
        *re.findall(r"'(\w+)' in self\.paramwise_cfg", source(constructor))
    }
