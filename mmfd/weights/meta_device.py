"""Building host networks on the meta device, where shapes have no values."""
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook)
from torch.overrides import TorchFunctionMode

from mmfd.errors import Refused

EACH = 100  # numbers that a tensor counts for, so that empty ones end too


class RealSchedules(TorchFunctionMode):
    """Compute `torch.linspace` on the CPU, whatever device is built on.

    mmpretrain's Swins and ConvNeXts read their drop-path rates from it one
    number at a time, which a tensor on the meta device does not have. So

        with torch.device('meta'), RealSchedules():

    builds a network of any size without memory, to count and to plan.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.linspace:
            return func(*args, **dict(kwargs or {}, device='cpu'))
        return func(*args, **(kwargs or {}))


@contextmanager
def weightless():
    """Modules built here have parameters without memory.

    They are made and moved to the meta device one by one. Buffers are real:
    what a constructor computes for itself, as Swin V2 does, it may compute.
    """

    def forget(module, name, param):
        if param is not None:
            return nn.Parameter(param.to('meta'), param.requires_grad)

    handle = register_module_parameter_registration_hook(forget)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def no_larger(numbers):
    """Modules built here have so many numbers together, or are an error.

    Raises:
        Refused: as soon as there are more, whatever is still to come.
    """
    room = [numbers]

    def count(module, name, value):
        room[0] -= EACH + (0 if value is None else value.numel())
        if room[0] < 0:
            raise Refused(f'its network has more than {numbers:,} numbers')

    handles = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count)
    ]
    try:
        with RealSchedules():
            yield
    finally:
        for handle in handles:
            handle.remove()
