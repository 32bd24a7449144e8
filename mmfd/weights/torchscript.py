"""The tensors of a TorchScript archive, without its code.

Such an archive, as OpenAI publishes CLIP, is a zip of `data.pkl`, of code, and
of one file for each storage. `data.pkl` describes a tree of modules by classes
that the code defines. Here an empty class takes the place of every one of
them, and the code is not read.
"""
import collections
import io
import pickle
import zipfile

import torch

from mmfd.errors import Refused
from mmfd.weights import unpickling_guard


def is_torchscript(path):
    """Whether a zip is a TorchScript archive, so holds code."""
    with zipfile.ZipFile(path) as archive:
        return any('/code/' in name for name in archive.namelist())


def load(path):
    """Read an archive as a state dict.

    Args:
        path (Path): a zip that has passed `unpickling_guard.check_archive`.

    Returns:
        dict: name -> tensor, with a dot between the names of modules.

    Raises:
        Refused: if a module lies in the tree twice, or a tensor claims more
            numbers than are stored.
        Exception: of any kind, if the archive is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split('/')[0]
        pickled = archive.read(f'{root}/data.pkl')
        unpickling_guard.check_sizes(io.BytesIO(pickled))
        tree = _Unpickler(io.BytesIO(pickled), archive, root).load()
    tensors, seen = {}, set()

    def collect(module, prefix):
        if id(module) in seen:
            raise Refused(f'one module lies in it twice: {prefix}')
        seen.add(id(module))
        for name, value in module.attributes.items():
            if isinstance(value, _Module):
                collect(value, f'{prefix}{name}.')
            elif isinstance(value, torch.Tensor):
                tensors[prefix + name] = value

    collect(tree, '')
    return tensors


class _Module:
    """Takes the place of every class of the archive; holds its attributes."""

    def __setstate__(self, state):
        self.attributes = state


def _rebuild_tensor(flat, offset, size, stride, *_):
    tensor = flat.as_strided(size, stride, offset)
    if tensor.numel() > flat.numel():
        raise Refused(f'a tensor claims {tensor.numel():,} numbers of '
                      f'{flat.numel():,} stored')
    return tensor


_STORAGES = dict(
    BoolStorage=torch.bool,
    ByteStorage=torch.uint8,
    IntStorage=torch.int32,
    LongStorage=torch.int64,
    HalfStorage=torch.float16,
    BFloat16Storage=torch.bfloat16,
    FloatStorage=torch.float32,
    DoubleStorage=torch.float64)
_ALLOWED = {  # (module, name) in the pickle -> what is called in its place
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
    ('torch', 'device'): lambda name: None,
    **{
        ('torch.jit._pickle', f'build_{kind}list'): list
        for kind in ('int', 'double', 'bool', 'tensor')
    },
    ('torch.jit._pickle', 'restore_type_tag'): lambda value, tag: value,
}


class _Unpickler(pickle.Unpickler):

    def __init__(self, file, archive, root):
        super().__init__(file)
        self.archive, self.root = archive, root
        self.storages = {}  # name -> numbers

    def find_class(self, module, name):
        if module.startswith('__torch__'):
            return _Module
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == 'torch' and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f'GLOBAL {module}.{name}')

    def persistent_load(self, pid):
        _, dtype, name, _, _ = pid
        if not isinstance(name, str):
            raise pickle.UnpicklingError('a storage has no name')
        if name not in self.storages:
            data = self.archive.read(f'{self.root}/data/{name}')
            self.storages[name] = torch.frombuffer(
                bytearray(data), dtype=dtype) if data else torch.empty(
                    0, dtype=dtype)
        return self.storages[name]
