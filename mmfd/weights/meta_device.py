"""Building networks on the meta device: shapes without numbers or memory."""
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook)
from torch.overrides import TorchFunctionMode

from mmfd.errors import Refused

PER_TENSOR = 100  # numbers that each tensor counts for besides its own


class LinspaceOnCPU(TorchFunctionMode):
    """Compute `torch.linspace` on the CPU, whatever device is built on.

    mmpretrain's Swins and ConvNeXts read their drop-path rates from it one
    number at a time, and a tensor on the meta device has no numbers. So

        with torch.device('meta'), LinspaceOnCPU():

    builds a network of any size without memory, to count its weights or plan.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.linspace:
            return func(*args, **dict(kwargs or {}, device='cpu'))
        return func(*args, **(kwargs or {}))


@contextmanager
def weightless():
    """Give the modules that are built here parameters without memory.

    Each parameter is moved to the meta device as soon as it is made. Buffers
    are real, because constructors compute with them, as that of Swin V2 does.
    """

    def to_meta(module, name, param):
        if param is not None:
            return nn.Parameter(param.to('meta'), param.requires_grad)

    handle = register_module_parameter_registration_hook(to_meta)
    try:
        yield
    finally:
        handle.remove()


def allocate(network, device, dtype=None):
    """Make new parameters and buffers for a network, on a device.

    Args:
        dtype (torch.dtype): of the parameters. None: as they are.
    """
    for module in network.modules():
        for name, param in [*module.named_parameters(recurse=False)]:
            values = torch.empty(
                param.shape, dtype=dtype or param.dtype, device=device)
            setattr(module, name, nn.Parameter(values, param.requires_grad))
        for name, buffer in [*module.named_buffers(recurse=False)]:
            values = torch.empty(
                buffer.shape, dtype=buffer.dtype, device=device)
            setattr(module, name, values)


@contextmanager
def limit_model_size(numbers):
    """Stop the building of modules with more numbers than these together.

    Raises:
        Refused: at the first parameter or buffer that is too much.
    """
    left = [numbers]

    def count(module, name, value):
        left[0] -= PER_TENSOR + (0 if value is None else value.numel())
        if left[0] < 0:
            raise Refused(f'its network has more than {numbers:,} numbers')

    handles = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count)
    ]
    try:
        with LinspaceOnCPU():
            yield
    finally:
        for handle in handles:
            handle.remove()
