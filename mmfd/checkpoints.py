"""Weights in files: read without running code, written whole or not at all."""
import collections
import hashlib
import os
import pickle
import re
import zipfile
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors


class _Skipped:
    """Stands in for the log history or options that a checkpoint holds."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


def _method(owner, name):
    """`getattr`, for the one class whose log history names its methods."""
    if owner is not _Skipped:
        raise pickle.UnpicklingError('GLOBAL builtins.getattr')
    # None, which nothing calls


# What lies beside the weights in a training checkpoint, and what is made of it
BESIDE_WEIGHTS = [(_method, 'builtins.getattr')] + [
    (_Skipped, f'{module}.{name}')
    for module, name in (('mmengine.logging.history_buffer', 'HistoryBuffer'),
                         ('argparse', 'Namespace'), ('numpy', 'ndarray'),
                         ('numpy', 'dtype'),
                         ('numpy.core.multiarray', '_reconstruct'),
                         ('numpy.core.multiarray', 'scalar'),
                         ('numpy._core.multiarray', '_reconstruct'),
                         ('numpy._core.multiarray', 'scalar'))
]
# A backbone that averages its patches has a norm that no pre-training knows,
# and has no use for the norm that pre-training ends with.
FRESH, LEFT_OUT = ('ln2.', ), ('ln1.', )
# What follows from grid and windows: computed anew, never taken from a file.
TABLES = ('relative_position_index', 'relative_coords_table')


def load(path, source=''):
    """Read a weights file. Nothing in the file is executed.

    Args:
        path (str): `.safetensors`, what `torch.save` writes, or a TorchScript
            archive, of which only the tensors are read.
        source (str): told to who has not got the file.

    Returns:
        dict: the object in the file; of a TorchScript archive, its state
        dict.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no weights file, is damaged or wants to run code.
    """
    if '://' in str(path):
        raise ValueError(f'{path} is an address: download the file, compare '
                         'its sha256, and give its path')
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no weights file {path}. {source}'.strip())
    with open(path, 'rb') as file:
        start = file.read(512).lstrip()
    if start[:1] == b'<':
        raise ValueError(
            f'{path} is a web page, not weights: the download was answered '
            'with an error or login page; download it again')
    try:
        if path.suffix == '.safetensors':
            return safetensors.load_file(path)
        if _is_torchscript(path):
            return _load_torchscript(path)
        with torch.serialization.safe_globals(BESIDE_WEIGHTS):
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r'GLOBAL (\S+)', str(error))
        if not refused:
            raise _unreadable(path, error) from error
        raise ValueError(
            f'{path} holds a Python object ({refused[1]}) beside its weights; '
            'loading it would run code from the file, so it was not loaded. '
            'Ask for plain weights, or convert it with tools/convert.py'
        ) from error
    except (SafetensorError, zipfile.BadZipFile, OSError, RuntimeError,
            EOFError, KeyError, ValueError, AttributeError,
            TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path, error):
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ValueError(
        f'{path} ({path.stat().st_size:,} bytes) cannot be read as weights: '
        f'{reason[:200]}. It may be truncated or of another kind; compare '
        'its size and sha256 with the published ones and download it again')


def state_dict_of(checkpoint, path, branch='teacher'):
    """The weights in what `load` returned, at whatever key they lie.

    Args:
        branch (str): which to take where there is a teacher and a student.
    """
    for key in ('state_dict', 'model', branch):
        if isinstance(checkpoint, dict) and key in checkpoint:
            checkpoint = checkpoint[key]
    tensors = isinstance(checkpoint, dict) and {
        name: value
        for name, value in checkpoint.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise ValueError(f'{path} holds no named tensors, so no weights')
    for name, value in tensors.items():
        if value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f'{path}: {name!r} claims {value.nbytes:,} bytes '
                             'and stores less; it is no honest weights file')
    return tensors


def load_into(module, path, prefix='', source=''):
    """Load a file into a module, and refuse to leave anything to chance.

    Args:
        prefix (str): take only the keys that begin so, without it.
        source (str): told to who has not got the file.

    Raises:
        FileNotFoundError, ValueError: as `load`, and if a weight of the
            module has no counterpart in the file or the other way round,
            except for the norms of mean pooling.
    """
    state_dict = state_dict_of(load(path, source), path)
    if prefix:
        prefix = prefix.rstrip('.') + '.'
        state_dict = {
            key[len(prefix):]: value
            for key, value in state_dict.items() if key.startswith(prefix)
        }
    state_dict = {
        key: value
        for key, value in state_dict.items() if not key.endswith(TABLES)
    }
    name = type(module).__name__
    try:
        missing, unexpected = module.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        shapes = '; '.join(line.strip() for line in str(error).split('\n')[1:])
        raise ValueError(
            f'{path} is of another size than {name}: {shapes[:600]}. Set '
            'arch, img_size and patch_size to those of the file') from None
    missing = [
        k for k in missing
        if not k.startswith(FRESH) and not k.endswith(TABLES)
    ]
    unexpected = [k for k in unexpected if not k.startswith(LEFT_OUT)]
    if missing or unexpected:
        raise ValueError(
            f'{path} does not fit {name}: it lacks {_listed(missing)} and has '
            f'{_listed(unexpected)} that {name} does not know. '
            f'{_advice(unexpected, prefix)}')


def _listed(keys, most=6):
    more = f' and {len(keys) - most} more' if len(keys) > most else ''
    return (', '.join(keys[:most]) or 'nothing') + more


def _advice(unexpected, prefix):
    if not prefix and any(k.startswith('backbone.') for k in unexpected):
        return ("It is a whole model: add prefix='backbone.' to its init_cfg; "
                'for a teacher, python tools/export.py SRC DST takes the '
                'backbone out')
    return ('If it comes from elsewhere, bring it into mm names first: '
            'python tools/convert.py KIND SRC DST')


def sha256(path):
    """The sum that publishers print beside a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def written_whole(path):
    """Give a path to write to that becomes `path` if all goes well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f'{path.name}.{os.getpid()}.part')
    try:
        yield beside
        with open(beside, 'rb+') as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def save(state_dict, path, meta):
    """Write weights and where they come from; the suffix picks the format.

    Args:
        state_dict (dict): name -> tensor.
        path (str): `.pth`, or `.safetensors`.
        meta (dict): name -> str.
    """
    state_dict = {k: v.contiguous().clone() for k, v in state_dict.items()}
    with written_whole(path) as beside:
        if Path(path).suffix == '.safetensors':
            safetensors.save_file(state_dict, beside, metadata=meta)
        else:
            torch.save(dict(meta=meta, state_dict=state_dict), beside)


# A TorchScript archive is a zip of data.pkl, which describes a tree of modules
# by classes of the archive's own, of code, and of raw storages. The tree is
# read with every class replaced by an empty one, and the code is not touched.


class _Module:
    """What stands in for every class of the archive: its attributes."""

    def __setstate__(self, state):
        self.attributes = state


class _Storage:

    def __init__(self, dtype, data):
        self.dtype, self.data = dtype, data


def _rebuild_tensor(storage, offset, size, stride, *_):
    flat = torch.frombuffer(bytearray(storage.data), dtype=storage.dtype)
    if prod(size) > flat.numel():
        raise ValueError(f'a tensor claims {prod(size):,} numbers of '
                         f'{flat.numel():,} stored')
    return flat.as_strided(size, stride, offset).clone()


_STORAGES = dict(
    BoolStorage=torch.bool,
    ByteStorage=torch.uint8,
    IntStorage=torch.int32,
    LongStorage=torch.int64,
    HalfStorage=torch.float16,
    BFloat16Storage=torch.bfloat16,
    FloatStorage=torch.float32,
    DoubleStorage=torch.float64)
_TORCHSCRIPT_GLOBALS = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
    ('torch', 'device'): str,
    **{
        ('torch.jit._pickle', f'build_{kind}list'): list
        for kind in ('int', 'double', 'bool', 'tensor')
    },
    ('torch.jit._pickle', 'restore_type_tag'): lambda value, tag: value,
}


class _TorchScriptUnpickler(pickle.Unpickler):

    def __init__(self, archive, root):
        super().__init__(archive.open(f'{root}/data.pkl'))
        self.archive, self.root = archive, root

    def find_class(self, module, name):
        if module.startswith('__torch__'):
            return _Module
        if (module, name) in _TORCHSCRIPT_GLOBALS:
            return _TORCHSCRIPT_GLOBALS[module, name]
        if module == 'torch' and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f'GLOBAL {module}.{name}')

    def persistent_load(self, pid):
        _, dtype, key, _, _ = pid
        return _Storage(dtype, self.archive.read(f'{self.root}/data/{key}'))


def _is_torchscript(path):
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any('/code/' in name for name in archive.namelist())


def _load_torchscript(path):
    with zipfile.ZipFile(path) as archive:
        if any(i.compress_type != zipfile.ZIP_STORED
               for i in archive.infolist() if '/data' in i.filename):
            raise ValueError('its tensors are compressed, which PyTorch '
                             'never does')
        names = [name.lower() for name in archive.namelist()]
        if len(set(names)) < len(names):
            raise ValueError('it holds two files of one name')
        root = archive.namelist()[0].split('/')[0]
        tree = _TorchScriptUnpickler(archive, root).load()
    tensors = {}

    def collect(module, prefix):
        for name, value in module.attributes.items():
            if isinstance(value, _Module):
                collect(value, f'{prefix}{name}.')
            elif isinstance(value, torch.Tensor):
                tensors[prefix + name] = value

    collect(tree, '')
    return tensors
