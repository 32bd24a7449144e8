"""Weights files: read without running code from them, written whole."""
import hashlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors import torch as safetensors
from torch.utils import serialization

from mmfd import files
from mmfd.errors import NotWeights, Refused
from mmfd.weights import file_kinds, pytorch_file, weight_files
from mmfd.weights.memory_budget import FREE, SHARE, MemoryBudget
from mmfd.weights.weight_files import first_few

# Buffers that follow from grid and windows: a network computes them itself
DERIVED_BUFFERS = ('relative_position_index', 'relative_coords_table')
FLOATING = ('weight', 'bias')  # last parts of names that no integers have
LONGEST_NAME = 10_000  # letters


def load(path, source=''):
    """Read a weights file. Nothing in it is executed.

    Args:
        path (str): safetensors, what `torch.save` writes, or a TorchScript
            archive, of which only the tensors are read, whatever the name
            ends in; an index of shards (`.index.json`), or a folder with one
            of these, as Hugging Face lays it out.
        source (str): where the file can be had, for the message if there is
            no such file.

    Returns:
        dict: the object in the file; of safetensors, TorchScript and
        shards the state dict.

    Raises:
        Refused: as `weight_files.resolve`; if a file holds no weights, is
            damaged or wants to run code; or if shards and their index
            disagree.
    """
    first, *shards = weight_files.resolve(path, source)
    return _load_shards(first, shards) if shards else _load_file(first)


def _load_shards(index, shards):
    expected, tensors = {shard.name: set() for shard in shards}, {}
    for key, name in weight_files.weight_map(index).items():
        expected[name].add(key)
    for shard in shards:
        part = state_dict_of(_load_file(shard), shard)
        if part.keys() != expected[shard.name]:
            differ = sorted(map(str, part.keys() ^ expected[shard.name]))
            raise Refused(
                f'{shard} and {index} disagree on {first_few(differ)}: they '
                'are not of one download; download all shards again')
        tensors.update(part)
    return tensors


def _load_file(path):
    start = _start_of(path)
    if kind := file_kinds.no_weights(start):
        raise Refused(f'{path} {kind}')
    try:
        budget = MemoryBudget(path.stat().st_size)
        if file_kinds.is_safetensors(start):
            _check_header(path, budget)
            return safetensors.load_file(path)
        return pytorch_file.load(path, budget)
    except NotWeights as error:
        raise Refused(
            f'{path} {error}. Ask for its state dict alone, as '
            'torch.save(model.state_dict(), PATH) writes it') from error
    except Exception as error:  # a file may make its reader raise anything
        raise _unreadable(path, error) from error


def _start_of(path):
    with files.os_errors_refused(f'{path} cannot be read',
                                 'grant the right to'):
        with open(path, 'rb') as file:
            return file.read(file_kinds.START)


def _check_header(path, budget):
    """Pay for the tensors that a file of safetensors lists."""
    with open(path, 'rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        if length > path.stat().st_size:
            raise Refused('it ends too early')
        budget.spend_on_json(file.read(length))


def _unreadable(path, error):
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return Refused(
        f'{path} ({path.stat().st_size:,} bytes) cannot be read as weights: '
        f'{reason[:200]}. It may be truncated or of another kind; compare '
        'its size and sha256 with the published ones and download it again')


def meta(path):
    """The metadata that a file holds beside its weights, which are not read.

    Returns:
        dict: name -> value; empty if there is none. All values are str in
        safetensors.

    Raises:
        Refused: as `load`.
    """
    with serialization.config.patch('load.mmap', True):
        checkpoint = load(path)
    first = weight_files.resolve(path)[0]
    if file_kinds.is_safetensors(_start_of(first)):
        with safe_open(first, 'pt') as file:
            return file.metadata() or {}
    value = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    return value if isinstance(value, dict) else {}


def state_dict_of(checkpoint, path):
    """Find the weights in what `load` returned.

    Args:
        checkpoint: with the weights at the top or below `state_dict`, `model`
            or `teacher`.
        path (str): for messages.

    Returns:
        dict: name -> tensor.

    Raises:
        Refused: if there are none; if one is complex, quantised, sparse, empty
            or without values, or a weight of no fractions; or if they claim
            far more bytes than they store.
    """
    for key in ('state_dict', 'model', 'teacher'):
        if isinstance(checkpoint, dict) and key in checkpoint:
            checkpoint = checkpoint[key]
    tensors = isinstance(checkpoint, dict) and {
        name: value
        for name, value in checkpoint.items()
        if isinstance(value, torch.Tensor) and isinstance(name, str)
    }
    if not tensors:
        raise Refused(f'{path} holds no named tensors, so no weights')
    storages = {}  # address -> bytes; several tensors may share one
    for name, value in tensors.items():
        _check_plain(name, value, path)
        storage = value.untyped_storage()
        if value.nbytes > storage.nbytes():
            raise Refused(f'{path}: {name!r} claims {value.nbytes:,} bytes '
                          'and stores less; it is no honest weights file')
        storages[storage.data_ptr()] = storage.nbytes()
    claimed = sum(value.nbytes for value in tensors.values())
    stored = sum(storages.values())
    if claimed > FREE + SHARE * stored:
        raise Refused(f'{path}: its tensors claim {claimed:,} bytes and '
                      f'store {stored:,}; it is no honest weights file')
    return tensors


def state_dict_in(path):
    """The weights in a file: `state_dict_of` what `load` returns.

    Raises:
        Refused: as both.
    """
    return state_dict_of(load(path), path)


def _check_plain(name, value, path):
    """Refuse a tensor that is not of plain numbers, by its kind."""
    if len(name) > LONGEST_NAME:
        raise Refused(f'{path}: a name has {len(name):,} letters: '
                      f'{name[:50]!r}...')
    if value.layout is not torch.strided or value.device.type != 'cpu':
        raise Refused(f'{path}: {name!r} holds no plain numbers but is '
                      f'{value.layout} on {value.device}')
    floating = name.rpartition('.')[2] in FLOATING
    if floating and not value.numel():
        raise Refused(f'{path}: {name!r} is empty, as where weights are in '
                      'pieces (ZeRO-3 of DeepSpeed): put them together '
                      '(zero_to_fp32.py beside it), and give that file')
    if value.is_complex() or value.is_quantized or (
            floating and not value.is_floating_point()):
        raise Refused(f'{path}: {name!r} is in {value.dtype}, and weights are '
                      'fractions: take the file before it was quantised or '
                      'changed otherwise')


def check_finite(weights, path, buffers=()):
    """Refuse weights that are not finite, such as of a run that diverged.

    Args:
        weights (dict): name -> tensor. Derived buffers may be NaN.
        path (str): for the message.
        buffers (set): names of those that may be masks, of which parts are
            infinite.

    Raises:
        Refused: with the name of one of them.
    """
    for name, value in weights.items():
        if not value.is_floating_point() or name.endswith(DERIVED_BUFFERS):
            continue
        sound = ~value.isnan() if name in buffers else value.isfinite()
        if not sound.all():
            raise Refused(f'{path}: {name} has numbers that are not finite, '
                          'as after a run that diverged: give an earlier file')


def fingerprint(tensors):
    """The sha256 of names and numbers, whatever file they came in.

    Args:
        tensors (dict): name -> tensor; derived buffers do not count.
    """
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if not name.endswith(DERIVED_BUFFERS):
            digest.update(f'{name} {value.dtype} {[*value.shape]}'.encode())
            numbers = value.detach().cpu().contiguous().reshape(-1)
            digest.update(numbers.view(torch.uint8).numpy())
    return digest.hexdigest()


def save(state_dict, path, meta):
    """Write weights and metadata; the suffix decides the format.

    The same weights and metadata always give the same bytes.

    Args:
        state_dict (dict): name -> tensor.
        path (str): `.pth`, or `.safetensors`.
        meta (dict): name -> str.

    Raises:
        Refused: if the suffix is another, or the file cannot be written.
    """
    if Path(path).suffix not in ('.pth', '.safetensors'):
        raise Refused(f'{path} is to end in .pth or .safetensors')
    state_dict = {k: v.contiguous().clone() for k, v in state_dict.items()}
    with files.output_file(path) as part:
        if Path(path).suffix == '.safetensors':
            safetensors.save_file(state_dict, part, metadata=meta)
        else:
            with open(part, 'wb') as file:  # of a path, it stores the name
                torch.save(dict(meta=meta, state_dict=state_dict), file)
