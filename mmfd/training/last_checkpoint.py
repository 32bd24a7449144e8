"""Find the checkpoint that a run resumes from."""
import logging
import zipfile
from pathlib import Path

from mmengine.logging import print_log
from torch.utils import serialization

from mmfd.errors import Refused
from mmfd.weights import checkpoints

PATTERNS = 'epoch_*.pth', 'iter_*.pth', 'interim_*.pth'


def last_valid_checkpoint(work_dir):
    """The path of the newest checkpoint that is undamaged, or None.

    The newest is that of the latest file time, since a folder may hold
    checkpoints of an earlier run, then of the highest iteration. It is read
    to its end and compared with the checksums that PyTorch stores. Damaged
    files are named in the log.
    """
    candidates = []
    for file in find_checkpoints(work_dir):
        try:
            candidates.append(
                (file.stat().st_mtime_ns, _iteration(file), file))
        except Refused as error:
            _log_damage(file, error)
    for *_, file in sorted(candidates, reverse=True):
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if not damaged:
            return str(file)
        _log_damage(file, f'the checksum of {damaged} in it is wrong')


def find_checkpoints(work_dir):
    """A set of the paths of a run's checkpoints, damaged ones too."""
    folders, note = {Path(work_dir)}, Path(work_dir, 'last_checkpoint')
    files = set()
    if note.is_file():  # the host writes the last path there
        last = Path(note.read_text().strip())
        files = {last} if last.is_file() else files
        folders.add(last.parent)  # default_hooks.checkpoint.out_dir
    return files.union(
        file for folder in folders for pattern in PATTERNS
        for file in folder.glob(pattern))


def resume_position(iteration, epoch, length, old_length, accumulation):
    """Where a run resumes from a checkpoint.

    Args:
        iteration, epoch (int): done when the checkpoint was written.
        length, old_length (int): iterations of an epoch, now and then. It
            changes with the number of images and the batch size; the run
            then resumes at the same fraction of its epoch.
        accumulation (int): iterations of an update. Those of an unfinished
            update are repeated.

    Returns:
        tuple[int, int]: epoch and iteration.
    """
    in_epoch = iteration - epoch * old_length
    if length != old_length:
        iteration = epoch * length + in_epoch * length // old_length
    iteration -= iteration % accumulation
    return iteration // length, iteration


def _iteration(file):
    with serialization.config.patch('load.mmap', True):  # no weights yet
        meta = checkpoints.meta(file)
    if 'iter' not in meta:
        raise Refused(f'{file} does not say at which iteration it was saved')
    return meta['iter']


def _log_damage(file, reason):
    print_log(f'cannot resume from {file}, trying an older one: {reason}',
              'current', logging.WARNING)
