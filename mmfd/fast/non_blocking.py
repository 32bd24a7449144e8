"""Copies to a GPU that the host does not wait for."""
from functools import partial

import torch
from torch.overrides import TorchFunctionMode


class NonBlockingCopies(TorchFunctionMode):
    """Within it, what the CPU gives to a GPU is copied while it goes on.

    For code that is not ours: it moves labels to a GPU, or indexes a tensor
    there by one of the CPU, as mixup does, and each time the CPU would wait
    until the GPU has done everything before. Copies to the CPU still wait, as
    their numbers are read at once.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.to and not args[0].is_cuda:
            kwargs = dict(kwargs, non_blocking=True)
        elif func is torch.Tensor.__getitem__ and args[0].is_cuda:
            args = args[0], _moved(args[1], args[0].device)
        return func(*args, **kwargs)


def copy_without_waiting(module):
    """Let a module, such as a host's preprocessor, copy in that way."""
    module.forward = partial(_called, module.forward)


@torch.compiler.disable  # a host may compile its whole step
def _called(forward, *args, **kwargs):
    with NonBlockingCopies():
        return forward(*args, **kwargs)


def _moved(index, device):
    """An index, with the tensors in it on a device."""
    if isinstance(index, tuple):
        return tuple(_moved(part, device) for part in index)
    if isinstance(index, list):
        index = torch.tensor(index)
    if torch.is_tensor(index):
        return index.to(device, non_blocking=True)
    return index
