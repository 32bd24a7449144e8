"""Weights in files: read without running code, written whole or not at all."""
import collections
import hashlib
import io
import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors import torch as safetensors

from mmfd import files
from mmfd.errors import Refused
from mmfd.weights import unpickling_guard

RANDOM = 'random'  # in the place of a teacher's file: no file, random weights


class Kept:
    """Stands in for log history or options: what they were made of."""
    state = None

    def __new__(cls, *args):
        self = super().__new__(cls)
        self.args = args
        return self

    def __setstate__(self, state):
        self.state = state


def _method(owner, name):
    """`getattr`, for the one class whose log history names its methods."""
    if owner is not Kept:
        raise pickle.UnpicklingError('GLOBAL builtins.getattr')
    # None, which nothing calls


# What lies beside the weights in a training checkpoint, and what is made of it
BESIDE_WEIGHTS = [
    (_method, 'builtins.getattr'),
    (collections.OrderedDict, 'yacs.config.CfgNode'),  # FD's own options
    *((Kept, f'{module}.{name}') for module, name in (
        ('mmengine.logging.history_buffer', 'HistoryBuffer'),
        ('argparse', 'Namespace'),
        ('numpy', 'ndarray'),
        ('numpy', 'dtype'),
        ('numpy.core.multiarray', '_reconstruct'),
        ('numpy.core.multiarray', 'scalar'),
        ('numpy._core.multiarray', '_reconstruct'),
        ('numpy._core.multiarray', 'scalar'),
    ))
]
# A backbone that averages its patches has a norm that no pre-training knows,
# and has no use for the norm that pre-training ends with; a Swin that gives
# the map of every stage has norms for them. None has any use for the
# classifier that a converted teacher brings.
FRESH, LEFT_OUT = ('ln2.', 'norm0.', 'norm1.', 'norm2.'), ('ln1.', 'head.')
# How a folder of weights names them: in one file, or in a list of shards
IN_FOLDER = ('model.safetensors', 'model.safetensors.index.json',
             'pytorch_model.bin', 'pytorch_model.bin.index.json',
             'open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
SHARDS = '.index.json'
# What follows from grid and windows: computed anew, never taken from a file.
TABLES = ('relative_position_index', 'relative_coords_table')
SHARED = 32  # tensors, at most, that may have the same bytes on average
# Names that only files of a known kind have, which tools/convert.py takes
FOREIGN = {
    r'encoder\.(patch_embed|blocks|layers)\..+': 'fd-official',
    r'blocks\.\d+\.(gamma_[12]|attn\.q_bias)': 'fd-official',
    r'layers\.\d+\.blocks\.\d+\.attn\.rpe_mlp\..+': 'fd-official',
}


def load(path, source=''):
    """Read weights. Nothing in their files is executed.

    Args:
        path (str): `.safetensors`, what `torch.save` writes, or a TorchScript
            archive, of which only the tensors are read; a list of shards
            (`.index.json`), or the folder of one of these as Hugging Face
            lays it out.
        source (str): told to who has not got the file.

    Returns:
        dict: the object in the file; of a TorchScript archive or of shards,
        the state dict.

    Raises:
        Refused: if there is no such file, or a shard is missing; if it is no
            weights file, is damaged or wants to run code; or if shards and
            their list disagree.
    """
    first, *shards = files_of(path, source)
    return _load_shards(first, shards) if shards else _load_file(first)


def files_of(path, source=''):
    """The files that `load` reads: one, or a list of shards and the shards.

    Raises:
        Refused: as `load`.
    """
    if '://' in str(path):
        raise Refused(f'{path} is an address: download the file, compare '
                      'its sha256, and give its path')
    path = Path(path)
    if path.is_dir():
        there = [path / name for name in IN_FOLDER if (path / name).is_file()]
        if not there:
            raise Refused(
                f'{path} is a folder and holds none of '
                f'{", ".join(IN_FOLDER)}: name the weights file in it')
        path = there[0]
    if not path.is_file():
        raise Refused(f'no weights file {path}. {source}'.strip())
    unpickling_guard.check_stored(path)
    if not path.name.endswith(SHARDS):
        return [path]
    names = shards_of(path)
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing:
        raise Refused(
            f'{path} lists {len(names)} shards, and beside it there is no '
            f'{_listed(missing)}: download what is missing to its folder')
    shards = [path.with_name(name) for name in names]
    for shard in shards:
        unpickling_guard.check_stored(shard)
    return [path, *shards]


def shards_of(index):
    """The names of the shards in a list, which lie beside it."""
    return sorted(set(_weight_map(index).values()))


def _weight_map(index):
    """Which tensor lies in which shard, as the list has it."""

    def once(pairs):
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise Refused(f'it lists {_listed(twice)} twice')
        return dict(pairs)

    try:
        with open(index, encoding='utf-8') as file:
            listed = json.load(file, object_pairs_hook=once)['weight_map']
        shards = {*listed.values()}
        kind = Path(index.name.removesuffix(SHARDS)).suffix
        for name in shards:
            plain = Path(name).name == name and len(os.fsencode(name)) < 256
            if not plain or not name.endswith(kind):
                raise Refused(f'a shard is called {name[:99]!r}, which is no '
                              f'{kind} file beside it')
        if not shards:
            raise Refused('it lists nothing')
        return listed
    except (ValueError, KeyError, TypeError, AttributeError,
            RecursionError) as error:
        raise Refused(f'{index} is no list of shards: '
                      f'{type(error).__name__}: {error}') from error


def _load_shards(index, shards):
    listed, tensors = _weight_map(index), {}
    for shard in shards:
        part = state_dict_of(_load_file(shard), shard)
        expected = {k for k, name in listed.items() if name == shard.name}
        if part.keys() != expected:
            differ = sorted(map(str, part.keys() ^ expected))
            raise Refused(
                f'{shard} and {index} disagree on {_listed(differ)}: they '
                'are not of one download; download all shards again')
        tensors.update(part)
    return tensors


def _load_file(path):
    with files.or_refuse(f'{path} cannot be read', 'grant the right to'):
        with open(path, 'rb') as file:
            start = file.read(512)
    if is_web_page(start):
        raise Refused(
            f'{path} is a web page, not weights: the download was answered '
            'with an error or login page; download it again')
    if start.startswith(b'version https://git-lfs'):
        raise Refused(f'{path} only says where its weights are: run '
                      '"git lfs pull" in its folder, or download the file')
    try:
        if path.suffix == '.safetensors':
            return safetensors.load_file(path)
        archived = zipfile.is_zipfile(path)
        if archived:
            unpickling_guard.check_archive(path)
        if archived and _is_torchscript(path):
            return _load_torchscript(path)
        _check_pickles(path, archived)
        with torch.serialization.safe_globals(BESIDE_WEIGHTS):
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r'GLOBAL (\S+)', str(error))
        if not refused:
            raise _unreadable(path, error) from error
        raise Refused(
            f'{path} holds a Python object ({refused[1]}) beside its weights; '
            'loading it would run code from the file, so it was not loaded. '
            'Ask for plain weights, or convert it with tools/convert.py'
        ) from error
    except Exception as error:  # a file may make its reader raise anything
        raise _unreadable(path, error) from error


def _check_pickles(path, archived):
    """What PyTorch would call: by a zip's one pickle, or by five in turn."""
    also = {name for _, name in BESIDE_WEIGHTS}
    if archived:
        with zipfile.ZipFile(path) as archive:
            root = archive.namelist()[0].split('/')[0]
            pickled = archive.read(f'{root}/data.pkl')
        unpickling_guard.check_pickle(io.BytesIO(pickled), also)
        return
    with open(path, 'rb') as file:
        for _ in range(5):  # magic number, version, machine, object, storages
            unpickling_guard.check_pickle(file, also)


def is_web_page(start):
    """Whether bytes are the first of a page, such as of an error or login."""
    return start.lstrip()[:1] == b'<'


def meta(path):
    """What a file says beside its weights.

    Raises:
        Refused: as `load`.
    """
    checkpoint = load(path)
    if Path(path).suffix == '.safetensors':
        with safe_open(path, 'pt') as file:
            return file.metadata() or {}
    told = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    return told if isinstance(told, dict) else {}


def _unreadable(path, error):
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return Refused(
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
        if isinstance(value, torch.Tensor) and isinstance(name, str)
    }
    if not tensors:
        raise Refused(f'{path} holds no named tensors, so no weights')
    stored = {}  # where -> bytes; several tensors may share them
    for name, value in tensors.items():
        if value.layout is not torch.strided or value.device.type != 'cpu':
            raise Refused(f'{path}: {name!r} holds no plain numbers but is '
                          f'{value.layout} on {value.device}')
        storage = value.untyped_storage()
        if value.nbytes > storage.nbytes():
            raise Refused(f'{path}: {name!r} claims {value.nbytes:,} bytes '
                          'and stores less; it is no honest weights file')
        stored[storage.data_ptr()] = storage.nbytes()
    claimed, there = sum(t.nbytes
                         for t in tensors.values()), sum(stored.values())
    if claimed > SHARED * there:
        raise Refused(f'{path}: its tensors claim {claimed:,} bytes and '
                      f'store {there:,}; it is no honest weights file')
    return tensors


def load_into(module, path, prefix='', source='', exact=False):
    """Load a file into a module, and refuse to leave anything to chance.

    Args:
        prefix (str): take only the keys that begin so, without it.
        source (str): told to who has not got the file.
        exact (bool): refuse also what the module would resize, such as
            positions of another grid.

    Returns:
        list[str]: first parts of the names that were left out, as `head`.

    Raises:
        Refused: as `load`, and if a weight of the
            module has no counterpart in the file or the other way round,
            except for the norms of mean pooling.
    """
    whole = state_dict = state_dict_of(load(path, source), path)
    name = type(module).__name__
    if prefix:
        prefix = prefix.rstrip('.') + '.'
        state_dict = {
            key[len(prefix):]: value
            for key, value in whole.items() if key.startswith(prefix)
        }
    state_dict = {
        key: value
        for key, value in state_dict.items() if not key.endswith(TABLES)
    }
    own = module.state_dict()
    if not state_dict:
        raise Refused(
            f'{path} does not fit {name}: none of its keys begins with '
            f'prefix={prefix!r}; they begin with {_listed([*whole], 3)}. '
            f'{_advice(whole, prefix, path, own)}')
    check_precision(state_dict, path)
    if state_dict.keys().isdisjoint(own.keys()):
        raise Refused(f'{path} does not fit {name}, which knows none of '
                      f'its names: {_listed([*state_dict], 3)}. '
                      f'{_advice(state_dict, prefix, path, own)}')
    if exact:
        _check_sizes(
            name, path,
            [(key, str([*state_dict[key].shape]), str([*own[key].shape]))
             for key in state_dict if key in own])
    try:
        missing, unexpected = module.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        _check_sizes(name, path, re.findall(SIZES, str(error)))
        raise Refused(f'{path} is of another size than {name}: its bias '
                      f'tables are of other windows. {RESIZE}') from None
    missing = [
        k for k in missing
        if not k.startswith(FRESH) and not k.endswith(TABLES)
    ]
    outside = [key for key in whole if not key.startswith(prefix)]
    left_out = {key.partition('.')[0] for key in [*outside, *unexpected]}
    unexpected = [k for k in unexpected if not k.startswith(LEFT_OUT)]
    if missing or unexpected:
        raise Refused(
            f'{path} does not fit {name}: it lacks {_listed(missing)} and has '
            f'{_listed(unexpected)} that {name} does not know. '
            f'{_advice(unexpected, prefix, path, own)}')
    return sorted(left_out)


RESIZE = ('Set arch, img_size and patch_size, of a Swin window_size too, to '
          'those of the file')
# How PyTorch says that a weight has another shape than the file's
SIZES = (r'size mismatch for (\S+): copying a param with shape '
         r'torch\.Size\((.*?)\) from checkpoint, the shape in current model '
         r'is torch\.Size\((.*?)\)')


def _check_sizes(name, path, sizes):
    differ = [
        f'{key} is {there} in the file and {here} in the network'
        for key, there, here in sizes if there != here
    ]
    if differ:
        raise Refused(f'{path} is of another size than {name}: '
                      f'{_listed(differ, 3)}. {RESIZE}')


def check_precision(state_dict, path):
    """Refuse weights that have lost digits: training here saves fp32.

    Raises:
        Refused: names one of them.
    """
    for name, value in state_dict.items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise Refused(
                f'{path} holds {name!r} in {value.dtype}, so it has lost '
                'digits that fp32 has: give the file that it was made from')


def _listed(keys, most=6):
    more = f' and {len(keys) - most} more' if len(keys) > most else ''
    return (', '.join(keys[:most]) or 'nothing') + more


def _advice(unexpected, prefix, path, own):
    for pattern, kind in FOREIGN.items():
        if any(re.fullmatch(pattern, key) for key in unexpected):
            return ('It is as its authors published it; bring it into mm '
                    f'names first: python tools/convert.py {kind} {path} DST')
    if 'head.fc.weight' in own:
        return ('If it is a distilled student or a backbone alone: '
                'fine-tuning makes the classifier that is expected')
    if any(k.startswith('backbone.') for k in own):
        return 'It is of another model: give the config that it is of'
    if not prefix and any(k.startswith('backbone.') for k in unexpected):
        return ("It is a whole model: add prefix='backbone.' to its init_cfg; "
                'for a teacher, python tools/export.py SRC DST takes the '
                'backbone out')
    return ('If it comes from elsewhere, bring it into mm names first: '
            'python tools/convert.py KIND SRC DST')


def sha256(path):
    """The sum that publishers print beside a file.

    Of several files, as `files_of` gives them, the sum of what the command
    `sha256sum` prints for them.
    """
    parts = files_of(path)
    sums = [files.sha256(part) for part in parts]
    if len(parts) == 1:
        return sums[0]
    printed = ''.join(f'{s}  {part.name}\n' for s, part in zip(sums, parts))
    return hashlib.sha256(printed.encode()).hexdigest()


def fingerprint(tensors):
    """sha256 of names and numbers, whatever file they came in.

    Args:
        tensors (dict): name -> tensor; what is computed anew is left out.
    """
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if not name.endswith(TABLES):
            digest.update(f'{name} {value.dtype} {[*value.shape]}'.encode())
            numbers = value.detach().cpu().contiguous().reshape(-1)
            digest.update(numbers.view(torch.uint8).numpy())
    return digest.hexdigest()


def save(state_dict, path, meta):
    """Write weights and where they come from; the suffix picks the format.

    Args:
        state_dict (dict): name -> tensor.
        path (str): `.pth`, or `.safetensors`.
        meta (dict): name -> str.

    Raises:
        Refused: if the suffix is another.
    """
    if Path(path).suffix not in ('.pth', '.safetensors'):
        raise Refused(f'{path} is to end in .pth or .safetensors')
    state_dict = {k: v.contiguous().clone() for k, v in state_dict.items()}
    with files.output_file(path) as beside:
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
_TORCHSCRIPT_GLOBALS = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
    ('torch', 'device'): lambda name: None,
    **{
        ('torch.jit._pickle', f'build_{kind}list'): list
        for kind in ('int', 'double', 'bool', 'tensor')
    },
    ('torch.jit._pickle', 'restore_type_tag'): lambda value, tag: value,
}


class _TorchScriptUnpickler(pickle._Unpickler):
    """In Python: the one in C takes memory by a number in the file."""

    def __init__(self, archive, root):
        super().__init__(archive.open(f'{root}/data.pkl'))
        self.archive, self.root = archive, root
        self.storages = {}  # key -> numbers

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
        if not isinstance(key, str):
            raise pickle.UnpicklingError('a storage has no name')
        if key not in self.storages:
            data = self.archive.read(f'{self.root}/data/{key}')
            self.storages[key] = torch.frombuffer(
                bytearray(data), dtype=dtype) if data else torch.empty(
                    0, dtype=dtype)
        return self.storages[key]


def _is_torchscript(path):
    with zipfile.ZipFile(path) as archive:
        return any('/code/' in name for name in archive.namelist())


def _load_torchscript(path):
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split('/')[0]
        unpickling_guard.check_tuples(
            io.BytesIO(archive.read(f'{root}/data.pkl')))
        tree = _TorchScriptUnpickler(archive, root).load()
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
