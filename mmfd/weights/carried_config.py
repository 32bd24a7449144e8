"""The config of a model that a checkpoint carries in its metadata.

It comes from a file, so it is not trusted: mmengine imports and calls whatever
dotted name stands at `type`, and builds networks of any size.
"""
import json

import torch
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.weights import checkpoints, weight_files
from mmfd.weights.meta_device import limit_model_size

TRUSTED = {  # all that such a config may name
    'mmfd.StudentViT', 'mmfd.StudentSwin', 'mmpretrain.BEiTViT',
    'mmpretrain.SwinTransformerV2', 'LN', 'GELU', 'Conv2d', 'mmfd.TimmNetwork',
    'mmfd.TorchvisionNetwork', 'mmfd.HuggingFaceNetwork', 'mmfd.MapMeanNeck',
    'mmpretrain.GlobalAveragePooling', 'BN', 'SyncBN', 'LN2d', 'ReLU', 'ReLU6',
    'Swish', 'SiLU', 'HSwish',
    *(f'mmpretrain.{name}'
      for name in ('VisionTransformer', 'DeiT3', 'DistilledVisionTransformer',
                   'SwinTransformer', 'ConvNeXt', 'ResNet', 'ResNetV1c',
                   'ResNetV1d', 'ResNeXt', 'SEResNet', 'RegNet', 'VGG',
                   'MobileNetV2', 'MobileNetV3', 'EfficientNet',
                   'EfficientNetV2', 'PoolFormer'))
}
# Settings of these that are looked up in a list or only shown, so they may be
# any text: type -> keys
PLAIN = {
    'mmfd.TimmNetwork': {'name', 'facts'},
    'mmfd.TorchvisionNetwork': {'name', 'facts'},
    'mmfd.HuggingFaceNetwork': {'config', 'facts'},
}
# Arguments of any function of a library, some of which are paths
ARGUMENTS = 'model_args'
# What lets transformers fetch code that a config names
FETCHING = 'auto_map', 'attn_implementation', 'quantization', 'kernel'
LARGEST_SUM = 1_000_000  # of all numbers in a carried config


def carried_config(path, to_build):
    """Read the config that a checkpoint carries.

    Args:
        path (str): as `checkpoints.load` takes it.
        to_build (bool): whether its backbone is going to be built.

    Returns:
        dict: of the model; empty if the checkpoint carries none.

    Raises:
        Refused: as `checkpoints.load`; if the config cannot be read; and of a
            backbone to build, if it names what is not in `TRUSTED` or is
            larger than its file.
    """
    text = checkpoints.meta(path).get('model', '{}')
    try:
        model = dict(json.loads(text))
        backbone = dict(model.get('backbone', {}))
        untrusted, total = _untrusted(backbone), sum(_numbers(backbone))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Refused(f'{path} carries no readable config of its model: '
                      f'{error}') from error
    if to_build and untrusted:
        raise Refused(
            f'{path} carries a config that names {min(untrusted)!r}, which no '
            'file is trusted to call: give the config yourself, --config '
            'configs/....py, or export it --to backbone')
    if to_build and backbone:
        _check_size(backbone, total, path)
    return model


def config_to_carry(model, backbone, projections=None):
    """The text by which a student's file says how it is built.

    Args:
        model (dict): the config that the student was trained with.
        backbone (dict): the config of the student.
        projections (dict): parts of a model's config, of projections that are
            in the file.
    """
    return json.dumps(
        dict(projections or {}, **statistics_in(model), backbone=backbone),
        default=str)


def statistics_in(model):
    """The parts of a model's config that say how pixels are normalised."""
    return {
        key: model[key]
        for key in ('normalize', 'data_preprocessor') if key in model
    }


def is_trusted(config):
    """Whether a config names nothing that could run a program."""
    return not _untrusted(config)


def _check_size(backbone, total, path):
    """Refuse a backbone of more numbers than its file has bytes."""
    size = sum(file.stat().st_size for file in weight_files.resolve(path))
    try:
        if not total <= LARGEST_SUM:
            raise Refused(f'its numbers add up to more than {LARGEST_SUM:,}')
        with limit_model_size(size + LARGEST_SUM), torch.device('meta'):
            MODELS.build(dict(backbone, init_cfg=None))
    except Exception as error:  # a config may make a builder raise anything
        raise Refused(f'{path} carries a config that builds no backbone of '
                      f'its weights: {error}') from error


def _numbers(node):
    """Yield the absolute values of all numbers in a part of a config."""
    if isinstance(node, (int, float)):
        yield abs(node)
    elif isinstance(node, (dict, list)):
        for part in node.values() if isinstance(node, dict) else node:
            yield from _numbers(part)


def _untrusted(node):
    """The names in a part of a config that are not in `TRUSTED`.

    They are types, dotted texts, and keys that are no arguments of a call.
    """
    if isinstance(node, dict):
        names = {str(node[k]) for k in ('type', 'conv_type') if k in node}
        names |= {k for k in node if not k.isidentifier() or k == '_scope_'}
        names |= {ARGUMENTS} & node.keys()
        plain = PLAIN.get(str(node.get('type')), set())
        names |= {
            key
            for key in dict(node.get('config') or {})
            if 'config' in plain and any(word in key for word in FETCHING)
        }
        parts = [
            value for key, value in node.items()
            if key not in {'type', 'init_cfg'} | plain
        ]
    else:
        names = {node} if isinstance(node, str) and '.' in node else set()
        parts = node if isinstance(node, list) else []
    return (names - TRUSTED).union(*map(_untrusted, parts))
