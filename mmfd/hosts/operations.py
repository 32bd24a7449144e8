"""Watch PyTorch's operations, and have them done without memory or device."""
from contextlib import contextmanager, nullcontext
from functools import cache

import torch

from mmfd.hosts.kernels import ATTENTION_ON_CPU
from mmfd.hosts.lookup import find, needed


def fake_tensors():
    """Within it tensors are made that have shapes and devices, but no memory.

    Raises:
        Refused: if PyTorch has none.
    """
    return needed('torch._subclasses.fake_tensor:FakeTensorMode')(
        allow_non_fake_inputs=True)


def real_tensors():
    """Within it tensors have memory, whether or not `fake_tensors` is on."""
    leave = find('torch._subclasses.fake_tensor:unset_fake_temporarily')
    return nullcontext() if leave is None else leave()


def every_operation(see):
    """Within it, call `see` after each operation, those of autograd included.

    Args:
        see (callable): takes the operation, its args and kwargs, and what it
            gave.

    Raises:
        Refused: if PyTorch cannot be watched.
    """
    mode = needed('torch.utils._python_dispatch:TorchDispatchMode')
    return _watch(mode)(see)


@cache
def _watch(mode):

    class Watch(mode):

        def __init__(self, see):
            super().__init__()
            self.see = see

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            self.see(func, args, kwargs or {}, out)
            return out

    return Watch


def flops_of(func, args, kwargs, out):
    """Floating-point operations of what `every_operation` has seen.

    Those of matrix products, attention and convolutions; others are 0.

    Raises:
        Refused: if PyTorch has no list of them.
    """
    formulas = needed('torch.utils.flop_counter:flop_registry')
    if func.overloadpacket is find(ATTENTION_ON_CPU):  # not in the list
        q, k, v = (tensor.shape for tensor in args[:3])
        pairs = q[0] * q[1] * q[2] * k[2]  # B H L L
        return 2 * pairs * (q[3] + v[3])
    formula = formulas.get(func.overloadpacket)
    return formula(*args, **kwargs, out_val=out) if formula else 0


def is_cast(func):
    """Whether an operation copies a tensor to another dtype or device."""
    return func is find('torch:ops.aten._to_copy.default')


@contextmanager
def autocast_anywhere(device, dtype):
    """`torch.autocast`, which would turn itself off where the device is not.

    Args:
        device (str): `cpu` or `cuda`, there or not.
        dtype (torch.dtype): None means no autocast.
    """
    if dtype is None:
        yield
        return
    torch.set_autocast_dtype(device, dtype)
    torch.set_autocast_enabled(device, True)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, False)
