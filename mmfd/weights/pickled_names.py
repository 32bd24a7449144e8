"""What the names in a weights file stand for, and what their calls return.

Each name of PyTorch, NumPy and others is a key of `NAMES`. Its value is a
plain object, or a function from here that takes the arguments from the file.
So a file can make tensors, and little else; the functions of PyTorch and NumPy
that it names are not called.
"""
import collections
import re

import torch

from mmfd.errors import Refused
from mmfd.hosts import pytorch

# Bytes of memory that an object takes, a tensor besides its numbers
TENSOR, DICT, OBJECT = 320, 140, 112


class UnknownName(Exception):
    """A pickle names something that weights are not made of."""


class Storage:
    """The numbers of tensors: bytes, and what they are to be read as."""
    __slots__ = 'bytes', 'dtype'

    def __init__(self, content, dtype):
        self.bytes, self.dtype = content, dtype  # UntypedStorage


class Stub:
    """Takes the place of an object of a class that weights do without.

    Attributes:
        args (tuple): what the class would have been called with.
        state: what the object's `__setstate__` would have been given.
    """

    def __init__(self, *args):
        self.args, self.state = args, None


def _stub(budget, *args):
    budget.spend(OBJECT)
    return Stub(*args)


def set_state(target, state):
    """Do as `__setstate__`, for a stub or the versions of a state dict.

    PyTorch writes to a state dict which version of its class each module has.

    Raises:
        Refused: for anything else.
    """
    if isinstance(target, Stub):
        target.state = state
        return
    if not isinstance(target, collections.OrderedDict):
        raise Refused(f'it sets attributes of a {type(target).__name__}')
    versions = state.get('_metadata') if isinstance(state, dict) else None
    if isinstance(versions, dict) and all(
            isinstance(facts, dict) and type(facts.get('version', 1)) is int
            for facts in versions.values()):
        pytorch.set_module_versions(target, versions)


def _ordered_dict(budget, *items):
    if items:
        raise Refused('it calls OrderedDict with entries')
    budget.spend(DICT)
    return collections.OrderedDict()


def _counter(budget, counts):
    return _known(counts, dict)


def _set(budget, values):
    return _known(values, list)


def _bytes(budget, *nothing):
    if nothing:
        raise Refused('it makes bytes of a number')
    return b''


def _encode(budget, text, codec):
    """Bytes, which protocol 2 writes as latin1; other codecs are refused."""
    if _known(codec, str) != 'latin1':
        raise Refused('its text is in an encoding that no weights file uses')
    budget.spend(len(_known(text, str)) + OBJECT)
    return text.encode('latin1')


def _attribute(budget, owner, name):
    """`getattr`, of a stub alone, and without effect.

    A pickled HistoryBuffer names its own methods, which nothing here uses.
    """
    if owner is not _stub:
        raise UnknownName('builtins.getattr')


def _tensor(budget,
            storage,
            offset,
            size,
            stride,
            requires_grad=False,
            hooks=None,
            metadata=None,
            dtype=None):
    """A plain tensor, whatever it was: hooks and gradients go."""
    dtype = dtype or _known(storage, Storage).dtype
    stored = storage.bytes.nbytes()
    budget.spend(TENSOR + 16 * len(size))
    if metadata or any(
            type(x) is not int or x < 0 for x in (offset, *size, *stride)):
        raise Refused('a tensor is no plain view of its numbers')
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if 0 not in size and (last + 1) * dtype.itemsize > stored:
        raise Refused('a tensor claims more numbers than are stored')
    tensor = torch.empty(
        0, dtype=dtype).set_(storage.bytes, offset, size, stride)
    budget.spend(max(0, tensor.nbytes - stored))  # of expanded ones
    return tensor


def _tensor_of_dtype(budget,
                     storage,
                     offset,
                     size,
                     stride,
                     requires_grad,
                     hooks,
                     dtype,
                     metadata=None):
    return _tensor(budget, storage, offset, size, stride, False, None,
                   metadata, _known(dtype, torch.dtype))


def _unwrapped(budget, tensor, *_):
    """A Parameter without its hooks and attributes."""
    return _known(tensor, torch.Tensor)


def _rebuilt(budget, function, cls, arguments, state):
    """A tensor without the attributes that it had."""
    if function not in (_tensor, _tensor_of_dtype, _unwrapped):
        raise Refused('it builds a tensor of what is none')
    return function(budget, *arguments)


def _size(budget, sizes):
    budget.spend(OBJECT + 8 * len(sizes))
    return torch.Size(sizes)


def _device(budget, name, *index):
    if not re.fullmatch(r'[a-z]{1,20}(:\d{1,3})?', _known(name, str)):
        raise Refused('no device is called so')
    return name


def _same(budget, value, *_):
    return value


def _known(value, cls):
    """The value, which has to be of a class."""
    if not isinstance(value, cls):
        raise Refused(f'it calls something with a {type(value).__name__} '
                      f'where a {cls.__name__} is expected')
    return value


STORAGES = dict(
    Bool=torch.bool,
    Byte=torch.uint8,
    Char=torch.int8,
    Short=torch.int16,
    Int=torch.int32,
    Long=torch.int64,
    Half=torch.float16,
    BFloat16=torch.bfloat16,
    Float=torch.float32,
    Double=torch.float64,
    ComplexFloat=torch.complex64,
    ComplexDouble=torch.complex128)
NAMES = {
    **{
        f'torch.{kind}Storage': dtype
        for kind, dtype in STORAGES.items()
    },
    'torch.storage.UntypedStorage': torch.uint8,
    **{
        f'torch.{name}': dtype
        for name, dtype in vars(torch).items() if isinstance(
            dtype, torch.dtype) and not name.startswith('q')
    },
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_of_dtype,
    'torch._utils._rebuild_parameter': _unwrapped,
    'torch._utils._rebuild_parameter_with_state': _unwrapped,
    'torch.nn.parameter.Parameter': _unwrapped,
    'torch.nn.parameter.Buffer': _unwrapped,
    'torch._tensor._rebuild_from_type_v2': _rebuilt,
    'torch.Tensor': _same,
    'torch.Size': _size,
    'torch.device': _device,
    'torch.serialization._get_layout': _same,
    'torch.jit._pickle.restore_type_tag': _same,
    **{
        f'torch.jit._pickle.build_{kind}list': _same
        for kind in ('int', 'double', 'bool', 'tensor')
    },
    'collections.OrderedDict': _ordered_dict,
    'collections.Counter': _counter,
    'builtins.set': _set,
    'builtins.frozenset': _set,
    'builtins.bytes': _bytes,
    'builtins.getattr': _attribute,
    '_codecs.encode': _encode,
    # what a training checkpoint holds beside weights
    'yacs.config.CfgNode': _ordered_dict,  # FD's own options
    'mmengine.logging.history_buffer.HistoryBuffer': _stub,
    'argparse.Namespace': _stub,
    'types.SimpleNamespace': _stub,
    'builtins.complex': _stub,
    **{
        f'datetime.{kind}': _stub
        for kind in ('date', 'datetime', 'time', 'timedelta', 'timezone')
    },
    **{
        f'{module}.{system}Path': _stub
        for module in ('pathlib', 'pathlib._local')  # of Python 3.13
        for system in ('Posix', 'Windows', 'PurePosix', 'PureWindows')
    },
    'numpy.ndarray': _stub,
    'numpy.dtype': _stub,
    **{
        f'numpy.{core}.multiarray.{name}': _stub
        for core in ('core', '_core')
        for name in ('_reconstruct', 'scalar')
    },
}


def find(name):
    """What a name stands for.

    Raises:
        UnknownName: if weights have no such name.
    """
    name = name.replace('__builtin__.', 'builtins.')  # of Python 2
    if name.startswith('__torch__.'):  # a class of a TorchScript archive
        return _stub
    if name not in NAMES:
        raise UnknownName(name if name.isprintable() else ascii(name))
    return NAMES[name]
