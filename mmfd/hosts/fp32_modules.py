"""Modules of the hosts that compute with coordinates, kept out of autocast.

mmdet's RoI extractors round boxes to the dtype of the maps: in bf16 by up to
four pixels beyond pixel 1,024. mmcv's deformable attention rounds so the
points that it looks at.
"""
from functools import partial

import torch

CLASSES = {'BaseRoIExtractor', 'MultiScaleDeformableAttention'}


def compute_in_fp32(model):
    """Give these modules of a model fp32, whatever is around them.

    Without mixed precision nothing changes.
    """
    for module in model.modules():
        if CLASSES & {base.__name__ for base in type(module).__mro__}:
            module.forward = partial(_in_fp32, module.forward)


def _in_fp32(forward, *args, **kwargs):
    args, kwargs = _exact(args), _exact(kwargs)
    tensors = [x for x in (*args, *kwargs.values()) if torch.is_tensor(x)]
    with torch.autocast(tensors[0].device.type, enabled=False):
        return forward(*args, **kwargs)


def _exact(value):
    """Tensors of fp16 and bf16 in fp32, those in lists, tuples, dicts too."""
    if isinstance(value, dict):
        return {key: _exact(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_exact, value))
    if torch.is_tensor(value) and value.dtype in (torch.float16,
                                                  torch.bfloat16):
        return value.float()
    return value
