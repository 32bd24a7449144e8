"""Products with weights that never change, kept as a CPU reads them."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode

from mmfd.hosts import pytorch


class PackedWeights(TorchFunctionMode):
    """Within it, `F.linear` takes copies of a network's weights.

    oneDNN brings weights into blocks of its own in every product, and before
    that autocast casts in every step what is not trained. Here both are done
    once for a weight and a dtype, and a GELU behind the product in an
    `nn.Sequential` is computed before the product leaves the cache. For a CPU:
    on a GPU the casts take less time than copies are worth in memory.

    Args:
        network (nn.Module): frozen. What is written to its weights all the
            same, but not through their `data`, is copied again. Those that it
            gets later, and those that a process gathers of shards, are taken
            as they are.

    Raises:
        RuntimeError: if something else than its GELU takes a product.
    """

    def __init__(self, network):
        super().__init__()
        self.weights = {  # held, so that no other one gets the id of one
            id(weight): weight
            for weight in network.parameters()
            if not isinstance(weight, DTensor)
        }
        self.copies = {}  # id of a weight, dtype -> its version, its copy
        self.active = None  # a product whose GELU is done already
        self.before_gelu = {
            id(layer.weight)
            for chain in network.modules() if isinstance(chain, nn.Sequential)
            for layer, act in zip([*chain], [*chain][1:])
            if isinstance(layer, nn.Linear) and isinstance(act, nn.GELU)
            and act.approximate == 'none'
        }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        active = self.active
        taken = active is not None and any(arg is active for arg in args)
        if taken and func is F.gelu:
            self.active = None
            return active
        if func is F.linear and not kwargs and not taken:
            return self.linear(*args)
        result = func(*args, **(kwargs or {}))
        if taken and torch.is_tensor(result):
            raise RuntimeError(
                f'{func.__name__} takes a product {tuple(active.shape)} whose '
                'GELU is computed already: in an nn.Sequential a teacher has '
                'to call Linear and GELU one after the other')
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
        y = pytorch.packed_linear(x, copy, bias, gelu)
        self.active = y if gelu else None
        return y

    def copy(self, weight, dtype):
        key = id(weight), dtype
        version, copy = self.copies.get(key, (None, None))
        if version != pytorch.version_of(weight):
            copy = weight.detach().to(dtype)
            if pytorch.can_pack(dtype) and type(
                    weight) is nn.Parameter:  # no fake one
                copy = pytorch.pack(copy)
            self.copies[key] = pytorch.version_of(weight), copy
        return copy
