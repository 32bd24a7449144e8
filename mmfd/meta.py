"""Building host networks on the meta device, where shapes have no values."""
import torch
from torch.overrides import TorchFunctionMode


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
