"""The files that hold the weights of a path, and their sum."""
import hashlib
import json
import os
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

from mmfd import files
from mmfd.errors import Refused
from mmfd.weights.memory_budget import MemoryBudget

RANDOM = 'random'  # given instead of a teacher's file: keep random weights
# What `mmfd distill` and `mmfd finetune` leave in the folder of their run
STUDENT, CLASSIFIER = 'student.safetensors', 'classifier.safetensors'
# What Hugging Face and open_clip call the weights in a folder
IN_FOLDER = ('model.safetensors', 'model.safetensors.index.json',
             'pytorch_model.bin', 'pytorch_model.bin.index.json',
             'open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
# Pieces of weights -> what puts them together
PIECES = {
    '*.distcp':
    'python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER '
    'FILE, with the folder of that file,',
    '*_optim_states.pt':
    'zero_to_fp32.py, which DeepSpeed puts beside them,',
    'adapter_model.*':
    'merge_and_unload() of peft, with the whole network,',
}
INDEX = '.index.json'  # of shards: which tensor lies in which file


def resolve(path, source=''):
    """Find the files that have to be read for a path.

    Args:
        path (str): a weights file; an index of shards (`.index.json`); or a
            folder that holds one of these under a name of `IN_FOLDER`, or
            is that of a run.
        source (str): where the file can be had, for the message if there is
            no such file.

    Returns:
        list[Path]: the weights file; or the index, then its shards.

    Raises:
        Refused: if the path is an address, does not exist or is a folder
            without weights; if an index is damaged or a shard is missing; if
            a file claims far more bytes than it has on the disk.
    """
    if '://' in str(path):
        raise Refused(f'{path} is an address: download the file, compare '
                      'its sha256, and give its path')
    path = Path(path)
    with files.os_errors_refused(f'{path} cannot be read',
                                 'give another path'):
        if path.is_dir():
            path = _in_folder(path)
        if not path.is_file():
            raise Refused(f'no weights file {path}. {source}'.strip())
        _check_whole(path, [path.name])
        _check_not_sparse(path)
        if not path.name.endswith(INDEX):
            return [path]
        names = shard_names(path)
        shards = [path.with_name(name) for name in names]
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing:
            raise Refused(
                f'{path} lists {len(names)} shards, and beside it there is no '
                f'{first_few(missing)}: download what is missing to its folder'
            )
        for shard in shards:
            _check_not_sparse(shard)
        return [path, *shards]


def first_file(folder, names):
    """The first of several names that is of a file in a folder (Path)."""
    return next((name for name in names if (folder / name).is_file()), None)


def _in_folder(folder):
    if name := first_file(folder, (STUDENT, CLASSIFIER, *IN_FOLDER)):
        return folder / name
    snapshots = [*folder.glob('snapshots/*')]  # as the hub's cache has them
    if len(snapshots) == 1:
        return _in_folder(snapshots[0])
    names = sorted(file.name for file in folder.iterdir())
    _check_whole(folder, names)
    there = [name for name in names if name.endswith(('.pth', '.safetensors'))]
    raise Refused(
        f'{folder} is a folder and holds none of {", ".join(IN_FOLDER)}: name '
        'the weights file in it' +
        (f', as {folder / there[-1]}' if there else ''))


def _check_whole(path, names):
    """Refuse pieces of weights: a file, or a folder with such files."""
    for name in names:
        for pattern, program in PIECES.items():
            if fnmatch(name, pattern):
                raise Refused(f'{path}: {name} holds a piece of the weights: '
                              f'{program} makes a file of all')


def _check_not_sparse(path):
    """Refuse a file that claims far more bytes than it has on the disk."""
    status = os.stat(path)
    on_disk = getattr(status, 'st_blocks', 0) * 512  # not on Windows
    if status.st_size > 1 << 30 and 0 < on_disk < status.st_size / 10:
        raise Refused(
            f'{path} claims {status.st_size:,} bytes, of which {on_disk:,} '
            'are on the disk: it was made to fill the memory, or was damaged '
            'on its way; get it again')


def shard_names(index):
    """The file names of the shards in an index, sorted."""
    return sorted(set(weight_map(index).values()))


def weight_map(index):
    """Read an index of shards.

    Args:
        index (Path): as Hugging Face writes it, `*.safetensors.index.json`
            or `*.bin.index.json`.

    Returns:
        dict: name of a tensor -> name of the file that holds it.

    Raises:
        Refused: if it is damaged, lists a tensor twice, or names a file of
            another folder or format.
    """

    def without_duplicates(pairs):
        counts = Counter(name for name, _ in pairs)
        if len(counts) < len(pairs):
            twice = sorted(n for n, count in counts.items() if count > 1)
            raise Refused(f'it lists {first_few(twice)} twice')
        return dict(pairs)

    try:
        text = index.read_bytes()
        MemoryBudget(len(text)).spend_on_json(text)
        content = json.loads(text, object_pairs_hook=without_duplicates)
        shards = content['weight_map']
        suffix = Path(index.name.removesuffix(INDEX)).suffix
        for name in {*shards.values()}:
            beside = Path(name).name == name and len(os.fsencode(name)) < 256
            if not beside or not name.endswith(suffix):
                raise Refused(f'a shard is called {name[:99]!r}, which is no '
                              f'{suffix} file beside it')
        if not shards:
            raise Refused('it lists nothing')
        return shards
    except (ValueError, KeyError, TypeError, AttributeError,
            RecursionError) as error:
        raise Refused(f'{index} is no index of shards: '
                      f'{type(error).__name__}: {error}') from error


def sha256(path):
    """The sha256 of what `resolve` finds, as its publishers print it.

    Of several files: the sha256 of the lines that the command `sha256sum`
    prints for them, the index first.
    """
    paths = resolve(path)
    with files.os_errors_refused(f'{path} cannot be read',
                                 'grant the right to'):
        sums = [files.sha256(file) for file in paths]
    if len(paths) == 1:
        return sums[0]
    lines = ''.join(f'{s}  {file.name}\n' for s, file in zip(sums, paths))
    return hashlib.sha256(lines.encode()).hexdigest()


def first_few(names, most=6):
    """The first of many names, for a message."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return (', '.join(names[:most]) or 'nothing') + more
