"""Find the checkpoint that a run resumes from, by what the files say."""
import os
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.training import run_folder
from mmfd.training.run_folder import UNNAMED
from mmfd.weights import checkpoints

WRITTEN = re.compile(r'(epoch|iter|interim)_\d+\.pth')  # by a run


class Candidate(NamedTuple):
    """A checkpoint, and what it says of itself."""
    file: Path
    run: str
    starts: int  # of its run, when it was written
    time: str  # when it was written
    iteration: int

    def order(self):
        """Among those of a run; clocks count only if no run is named."""
        time = '' if self.run else self.time
        return self.starts, time, self.iteration, self.file


def last_valid_checkpoint(folder):
    """The path of the last checkpoint of a folder's run, or None.

    The run is that of `run.json`; without this file, that of the checkpoint
    that says the latest time. Its last checkpoint is that of its last start
    and of the highest iteration, whatever the times of the files are. It is
    read to its end and compared with the checksums that PyTorch stores. The
    log names what is passed over.
    """
    candidates = []
    for file in find_checkpoints(folder):
        try:
            candidates.append(_candidate(file))
        except Refused as error:
            _log_damage(file, error)
    for candidate in _of_one_run(candidates, folder):
        with zipfile.ZipFile(candidate.file) as archive:
            damaged = archive.testzip()
        if not damaged:
            return str(candidate.file)
        _log_damage(candidate.file, f'the checksum of {damaged} in it is '
                    'wrong')


def find_checkpoints(folder):
    """Paths of the checkpoints that runs wrote to a folder, damaged ones too.

    The log names files, pipes, folders and links that are called like one and
    are none.
    """
    files = []
    for file in sorted(Path(folder).glob('*_*.pth')):
        if not file.name.startswith(('epoch_', 'iter_', 'interim_')):
            continue
        if not WRITTEN.fullmatch(file.name):
            log.warn(f'{file} is passed over: no run calls a checkpoint so')
        elif not os.path.isfile(file):
            log.warn(f'{file} is passed over: it is no file')
        else:
            files.append(file)
    return files


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


def _candidate(file):
    meta = checkpoints.meta(file)
    if type(meta.get('iter')) is not int:
        raise Refused(f'{file} does not say at which iteration it was saved')

    def said(key, default):
        value = meta.get(key)
        return value if type(value) is type(default) else default

    return Candidate(file, said('run', UNNAMED), said('starts', 0),
                     said('time', ''), meta['iter'])


def _of_one_run(candidates, folder):
    """The candidates of the folder's run, the last first."""
    if not candidates:
        return []
    run = run_folder.read(folder)
    if run is None:
        latest = max(candidates, key=lambda c: (c.time, c.iteration))
        names = {latest.run}
        log.warn(
            f'{folder} has no {run_folder.RUN} to say which run is the last '
            f'there; it is taken to be that of {latest.file.name}, which says '
            'the latest time')
    else:
        names = {run.name, run.goes_on}
    for candidate in candidates:
        if candidate.run not in names:
            log.warn(
                f'{candidate.file} is passed over: it is of another run than '
                f'the last one there; --resume {candidate.file} goes on '
                'from it')
    own = [c for c in candidates if c.run in names]
    return sorted(own, key=Candidate.order, reverse=True)


def _log_damage(file, reason):
    log.warn(f'cannot resume from {file}, trying an older one: {reason}')
