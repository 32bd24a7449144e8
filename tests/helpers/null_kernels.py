"""Kernels of the null device, computed by the CPU in the device's memory.

The null device runs no kernel, so what its tensors hold is not what was
computed. Within `computed()` every operation is done twice: on the device,
which allocates and launches as always, and on CPU tensors that are the same
memory. So values decide what they decide on a GPU, such as how many boxes an
NMS keeps, while memory and kernels stay those of CUDA.

Memory of the CPU is not counted.

    python -m helpers.null_kernels PROGRAM ARGUMENTS
"""
import ctypes
import math
import runpy
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

# Their number of results is that of values: done on the CPU, then copied
BY_VALUES = {
    'nonzero', 'masked_select', '_unique2', 'unique_dim', 'unique_consecutive',
    'repeat_interleave', 'bincount', 'nms'
}  # yapf: disable
COMPILED = 'erfinv_',  # by CUDA's compiler, in place: done on the CPU alone
WITHOUT_VALUES = 'empty', 'new_empty', 'set_', 'resize_', 'record_stream'


def computed(products=True):
    """Within it, tensors of the null device hold what is computed.

    Args:
        products (bool): also matrix products, attention and convolutions,
            which take the time. Else they give zeros.
    """
    return _Computed(products)


class _Computed(TorchDispatchMode):

    def __init__(self, products):
        super().__init__()
        self.zeros = () if products else flop_registry

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if func.is_view or name.startswith(WITHOUT_VALUES):
            return func(*args, **kwargs)
        device = kwargs.get('device')
        if not (_on_device((args, kwargs))
                or device is not None and torch.device(device).type == 'cuda'):
            return func(*args, **kwargs)
        if name in COMPILED:
            _on_cpu(func, args, kwargs)
            return args[0]
        if name in BY_VALUES:
            return tree_map(_moved, _on_cpu(func, args, kwargs))
        if name in ('index', 'index_put', 'index_put_', '_index_put_impl_'):
            args = [args[0], _places(args[1]), *args[2:]]
        inputs = _aliases(args), _aliases(kwargs)
        out = func(*args, **kwargs)
        given = {id(x) for x in tree_leaves((args, kwargs))}
        made = [
            x for x in tree_leaves(out)
            if isinstance(x, torch.Tensor) and id(x) not in given
        ]
        if func.overloadpacket in self.zeros:
            for part in made:
                _alias(part).zero_()
            return out
        values = _on_cpu(func, *inputs)
        if not isinstance(out, (torch.Tensor, tuple, list)):
            return values  # a number
        for part, value in zip(tree_leaves(out), tree_leaves(values)):
            if any(part is x for x in made):
                _alias(part).copy_(value)
        return out


def _on_cpu(func, args, kwargs):
    kwargs = dict(_aliases(kwargs))
    if kwargs.get('device') is not None:
        kwargs['device'] = torch.device('cpu')
        kwargs.pop('pin_memory', None)
    name = func.overloadpacket.__name__
    return FUSED.get(name, func)(*_aliases(args), **kwargs)


def _attention(q, k, v, bias, *_, scale=None, **__):
    probabilities, _ = _probabilities(q, k, bias, scale)
    return [probabilities.to(v.dtype) @ v]


def _attention_backward(grad, q, k, v, bias, *_, scale=None, **__):
    probabilities, scale = _probabilities(q, k, bias, scale)
    of_probabilities = (grad @ v.transpose(-2, -1)).float()
    of_scores = probabilities * (
        of_probabilities -
        (of_probabilities * probabilities).sum(-1, keepdim=True))
    scaled = (of_scores * scale).to(q.dtype)
    return [
        scaled @ k,
        scaled.transpose(-2, -1) @ q,
        probabilities.to(grad.dtype).transpose(-2, -1) @ grad, of_scores
    ]


def _probabilities(q, k, bias, scale):
    scale = scale or 1 / math.sqrt(q.shape[-1])
    scores = (q @ k.transpose(-2, -1)).float() * scale
    return (scores if bias is None else scores + bias).softmax(-1), scale


def _flash(q, k, v, *_, **options):
    return _attention(q, k, v, None, **options)


def _flash_backward(grad, q, k, v, *_, **options):
    return _attention_backward(grad, q, k, v, None, **options)[:3]


# Attention of CUDA alone; with neither dropout nor causality
FUSED = dict(
    _scaled_dot_product_efficient_attention=_attention,
    _scaled_dot_product_efficient_attention_backward=_attention_backward,
    _scaled_dot_product_flash_attention=_flash,
    _scaled_dot_product_flash_attention_backward=_flash_backward)


def _places(indices):
    """Indices with numbers in the place of masks."""
    places = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            places += [_moved(x) for x in _alias(index).nonzero(as_tuple=True)]
        else:
            places.append(index)
    return places


def _on_device(parts):
    return any(
        isinstance(x, torch.Tensor) and x.is_cuda for x in tree_leaves(parts))


def _moved(value):
    return value.to('cuda') if isinstance(value, torch.Tensor) else value


def _aliases(parts):
    return tree_map(lambda x: _alias(x)
                    if isinstance(x, torch.Tensor) else x, parts)


def _alias(tensor):
    """A CPU tensor of the same memory."""
    if not tensor.is_cuda:
        return tensor
    storage = tensor.untyped_storage()
    count = storage.nbytes()
    if not count:
        return torch.empty(
            tensor.shape,
            dtype=tensor.dtype).as_strided(tensor.shape, tensor.stride())
    memory = (ctypes.c_byte * count).from_address(storage.data_ptr())
    flat = torch.frombuffer(memory, dtype=torch.uint8)
    return flat[:count - count % tensor.itemsize].view(
        tensor.dtype).as_strided(tensor.shape, tensor.stride(),
                                 tensor.storage_offset())


if __name__ == '__main__':
    sys.argv = sys.argv[1:]
    torch.backends.cudnn.enabled = False  # of which there is no null one
    torch.backends.cuda.enable_cudnn_sdp(False)
    with computed():
        runpy.run_path(sys.argv[0], run_name='__main__')
