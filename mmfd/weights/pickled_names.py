"""What the names in a weights file stand for, and what their calls return.

Each name of PyTorch, NumPy and others is a key of `NAMES`. Its value is a
plain object, or a function from here that takes the arguments from the file.
So a file can make tensors, and little else; the functions of PyTorch and NumPy
that it names are not called.
"""
import collections
import re
from types import FunctionType

import torch

from mmfd.errors import NotWeights, Refused
from mmfd.hosts import pytorch

# Bytes of memory that an object takes, a tensor besides its numbers
TENSOR, DICT, ENTRY, OBJECT = 320, 140, 120, 112
KEYS = (str, bytes, int, float, bool, type(None), torch.dtype)
LARGEST_KEY = 1 << 60  # larger ones can be made to have one hash
# and so can tuples of larger ones, of fractions, or of more than three
LARGEST_IN_KEY, LONGEST_KEY = 1 << 20, 3


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
    An object that was left out is None, and stays so.

    Raises:
        NotWeights: for anything else.
    """
    if target is None:
        return
    if isinstance(target, Stub):
        target.state = state
        return
    if not isinstance(target, collections.OrderedDict):
        raise NotWeights(f'sets attributes of a {type(target).__name__}')
    versions = state.get('_metadata') if isinstance(state, dict) else None
    if isinstance(versions, dict) and all(
            isinstance(facts, dict) and type(facts.get('version', 1)) is int
            for facts in versions.values()):
        pytorch.set_module_versions(target, versions)


def check_key(key):
    """A key of a dict, unless many of them can be made to have one hash."""
    if type(key) in KEYS and (type(key) is not int or abs(key) <= LARGEST_KEY):
        return key
    if type(key) is tuple and len(key) <= LONGEST_KEY and all(
            map(_in_key, key)):
        return key
    raise NotWeights('holds a dict with a key that is no text, number, or few '
                     f'small ones of these, but a {type(key).__name__}')


def _in_key(part):
    return type(part) is str or (type(part) in (int, bool)
                                 and abs(part) <= LARGEST_IN_KEY)


def _left_out(budget, *args):
    """None in the place of an object that weights do without."""


def _dict(budget, start=(), *_):
    """Any kind of dict; a defaultdict's first argument makes its values."""
    if isinstance(start, FunctionType):
        start = ()
    budget.spend(DICT + ENTRY * len(start))
    pairs = start.items() if isinstance(start, dict) else start
    return collections.OrderedDict((check_key(k), v) for k, v in pairs)


def _list(budget, values=(), most=None):
    values = _known(values, (list, tuple))  # iterated, a tensor is many
    budget.spend(OBJECT + 8 * len(values))
    return [*values]


def _counter(budget, counts):
    return _known(counts, dict)


def _set(budget, values):
    return _known(values, list)


def _bytes(budget, value=b''):
    return _known(value, bytes)


def _encode(budget, text, codec):
    """Bytes, which protocol 2 writes as latin1; other codecs are refused."""
    if _known(codec, str) != 'latin1':
        raise Refused('its text is in an encoding that no weights file uses')
    budget.spend(len(_known(text, str)) + OBJECT)
    return text.encode('latin1')


def _attribute(budget, owner, name):
    """`getattr`, of what weights do without, and without effect.

    A pickled HistoryBuffer names its own methods, which nothing here uses.
    """
    if owner not in (_stub, _left_out):
        raise _object('builtins.getattr')


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
    if metadata:
        raise NotWeights('holds a tensor that is a conjugate or a negative of '
                         'its numbers')
    if any(type(x) is not int or x < 0 for x in (offset, *size, *stride)):
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
        raise Refused('it calls something with an argument that is a '
                      f'{type(value).__name__}')
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
# Libraries of which weights need no object, beside those named above
LEFT_OUT = re.compile(
    r'(accelerate|apex|deepspeed|fairseq|hydra|lightning|lightning_fabric|'
    r'mmcv|mmengine|omegaconf|pytorch_lightning|timm|transformers|typing)\..*')
# Tensors that are no plain numbers: sparse, quantised, nested
OTHER_TENSORS = re.compile(r'torch\._utils\._rebuild_.*|torch\.q[iu].*|'
                           r'torch\.Q\w+Storage')
DTYPES = {
    name: value
    for name, value in vars(torch).items()
    if isinstance(value, torch.dtype) and not name.startswith('q')
}
# What is made where a file calls one of these names
CALLS = {
    _tensor:
    ['torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2'],
    _tensor_of_dtype: ['torch._utils._rebuild_tensor_v3'],
    _unwrapped: [
        'torch._utils._rebuild_parameter',
        'torch._utils._rebuild_parameter_with_state',
        'torch.nn.parameter.Parameter', 'torch.nn.parameter.Buffer'
    ],
    _rebuilt: ['torch._tensor._rebuild_from_type_v2'],
    _same: [
        'torch.Tensor', 'torch.serialization._get_layout',
        'torch.jit._pickle.restore_type_tag',
        *(f'torch.jit._pickle.build_{kind}list'
          for kind in ('int', 'double', 'bool', 'tensor'))
    ],
    _size: ['torch.Size'],
    _device: ['torch.device'],
    _dict: [  # those with another class hold options of a training
        'collections.OrderedDict', 'collections.defaultdict',
        'addict.addict.Dict', 'addict.Dict', 'easydict.EasyDict',
        'lightning.fabric.utilities.data.AttributeDict',
        'lightning_fabric.utilities.data.AttributeDict',
        'mmcv.utils.config.ConfigDict', 'mmengine.config.config.ConfigDict',
        'pytorch_lightning.utilities.parsing.AttributeDict',
        'yacs.config.CfgNode'
    ],
    _list: ['collections.deque'],
    _counter: ['collections.Counter'],
    _set: ['builtins.set', 'builtins.frozenset'],
    _bytes: ['builtins.bytes', 'builtins.bytearray'],
    _encode: ['_codecs.encode'],
    _attribute: ['builtins.getattr'],
    _left_out: [  # of what a defaultdict makes what is missing in it
        f'builtins.{name}'
        for name in ('bool', 'dict', 'float', 'int', 'list', 'long', 'str')
    ],
    _stub: [  # what a training checkpoint holds beside weights
        'mmengine.logging.history_buffer.HistoryBuffer',
        'argparse.Namespace',
        'types.SimpleNamespace',
        'builtins.complex',
        'builtins.slice',
        'decimal.Decimal',
        'fractions.Fraction',
        'torch.torch_version.TorchVersion',
        'uuid.UUID',
        'numpy.ndarray',
        'numpy.dtype',
        *(f'datetime.{kind}'
          for kind in ('date', 'datetime', 'time', 'timedelta', 'timezone')),
        *(
            f'{module}.{system}Path'
            for module in ('pathlib', 'pathlib._local')  # of Python 3.13
            for system in ('Posix', 'Windows', 'PurePosix', 'PureWindows')),
        *(f'numpy.{core}.{name}' for core in ('core', '_core')
          for name in ('multiarray._reconstruct', 'multiarray.scalar',
                       'numeric._frombuffer'))
    ],
}
NAMES = {
    **{
        f'torch.{kind}Storage': dtype
        for kind, dtype in STORAGES.items()
    },
    'torch.storage.UntypedStorage': torch.uint8,
    **{
        f'torch.{name}': dtype
        for name, dtype in DTYPES.items()
    },
    **{
        name: made
        for made, names in CALLS.items()
        for name in names
    },
}


def find(name):
    """What a name stands for.

    Raises:
        NotWeights: if weights have no such name.
    """
    name = name.replace('__builtin__.', 'builtins.')  # of Python 2
    if name.startswith('__torch__.'):  # a class of a TorchScript archive
        return _stub
    if name in NAMES:
        return NAMES[name]
    if LEFT_OUT.fullmatch(name):
        return _left_out
    if OTHER_TENSORS.fullmatch(name):
        raise NotWeights(f'holds a tensor that is sparse, quantised or '
                         f'otherwise no plain numbers ({name:.99})')
    raise _object(name)


def _object(name):
    shown = name if name.isprintable() else ascii(name)
    return NotWeights(f'holds a Python object ({shown}) beside its weights; '
                      'loading it would run code from the file, so it was '
                      'not loaded')
