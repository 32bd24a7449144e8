"""Copies of a frozen network's weights in oneDNN's layout, made once."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode

from mmfd.hosts import kernels, pytorch


class PackedWeights(TorchFunctionMode):
    """Within it, `F.linear` uses packed copies of a network's weights.

    In every product oneDNN brings the weights into its own blocked layout,
    and before that autocast casts what is not trained. Here both are done
    once for each weight and dtype; and a GELU that follows the product in an
    `nn.Sequential` is computed together with it. This is for CPUs: on a GPU
    the casts take less time than the copies are worth in memory.

    Args:
        network (nn.Module): frozen. A weight that is written to all the same,
            but not through its `data`, is copied again. Weights that the
            network gets later, and those that a process gathers from shards,
            are used as they are.

    Raises:
        RuntimeError: if something other than its GELU takes a product.
    """

    def __init__(self, network):
        super().__init__()
        self.weights = {  # holds them, so that no other gets the id of one
            id(weight): weight
            for weight in network.parameters()
            if not isinstance(weight, DTensor)
        }
        self.copies = {}  # (id of a weight, dtype) -> (its version, its copy)
        self.activated = None  # the product whose GELU is computed already
        self.before_gelu = {
            id(layer.weight)
            for chain in network.modules() if isinstance(chain, nn.Sequential)
            for layer, act in zip([*chain], [*chain][1:])
            if isinstance(layer, nn.Linear) and isinstance(act, nn.GELU)
            and act.approximate == 'none'
        }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        product = self.activated
        takes_it = product is not None and any(arg is product for arg in args)
        if takes_it and func is F.gelu:
            self.activated = None
            return product
        if func is F.linear and not kwargs and not takes_it:
            return self.linear(*args)
        result = func(*args, **(kwargs or {}))
        if takes_it and torch.is_tensor(result):
            raise RuntimeError(
                f'{func.__name__} takes a product {tuple(product.shape)} '
                'whose GELU is computed already: in an nn.Sequential a '
                'teacher has to call Linear and GELU one after the other')
        return result

    def linear(self, x, weight, bias=None):
        if weight.requires_grad or id(weight) not in self.weights:
            return F.linear(x, weight, bias)
        dtype = weight.dtype
        if torch.is_autocast_enabled('cpu'):
            dtype = torch.get_autocast_dtype('cpu')
            x, bias = x.to(dtype), bias if bias is None else bias.to(dtype)
        copy = self.copy(weight, dtype)
        if not copy.is_mkldnn:
            return F.linear(x, copy, bias)
        gelu = id(weight) in self.before_gelu
        product = kernels.packed_linear(x, copy, bias, gelu)
        self.activated = product if gelu else None
        return product

    def copy(self, weight, dtype):
        key, version = (id(weight), dtype), pytorch.version_of(weight)
        copied, copy = self.copies.get(key, (None, None))
        if copied != version:
            copy = weight.detach().to(dtype)
            real = type(weight) is nn.Parameter  # a plan has fake ones
            if real and kernels.can_pack(dtype):
                copy = kernels.pack(copy)
            self.copies[key] = version, copy
        return copy
