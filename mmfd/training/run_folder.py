"""Which run a folder of checkpoints belongs to, and that it has one at a time.

Every checkpoint names its run, a random text that no other run has, and how
often the run had been started. The file `run.json` names the run that the
folder is used by now; `run.lock` is locked while it is.
"""
import json
import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from mmengine.dist import broadcast_object_list, is_main_process

from mmfd import files
from mmfd.errors import Refused
from mmfd.files import LOCK, RUN
from mmfd.hosts import log, system

UNNAMED = ''  # the run of checkpoints that name none, as older ones


class Run(NamedTuple):
    """A run, as `run.json` describes it."""
    name: str
    starts: int  # how often it has been started, 1 or more
    goes_on: str = None  # the unnamed run in the same folder, if it goes on

    def owns(self, meta):
        """Whether a checkpoint with this `meta` is one of this run."""
        return meta.get('run', UNNAMED) in (self.name, self.goes_on)


def folder_of(work_dir, out_dir=None):
    """Where a run writes its checkpoints: a Path.

    Args:
        work_dir, out_dir (str): of the run and of its checkpoint hook.
    """
    if not out_dir:
        return Path(work_dir)
    return Path(out_dir, os.path.basename(os.path.abspath(work_dir)))


def checkpoint_folder(cfg):
    """Where a run with this config writes its checkpoints: a Path."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    return folder_of(cfg.work_dir, hook.get('out_dir'))


def read(folder):
    """The run that uses a folder or used it last; None if nobody says."""
    file = Path(folder, RUN)
    if not os.path.isfile(file) or file.stat().st_size > 10_000:
        return None
    try:
        run = Run(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    known = isinstance(run.name, str) and type(
        run.starts) is int and (run.goes_on in (None, UNNAMED))
    return run if known else None


def begin(folder, resumed, meta):
    """Note a start of a run in its folder.

    Args:
        folder (str): where it writes its checkpoints.
        resumed (str): path of the checkpoint that it goes on from, or None;
            a run that goes on from one in another folder is a new run.
        meta (dict): of that checkpoint.

    Returns:
        Run: that is started.
    """
    before, run = read(folder), Run(uuid4().hex, 1)
    if resumed and _same(Path(resumed).parent, folder):
        name, started = meta.get('run', UNNAMED), meta.get('starts', 0)
        if before and before.owns(meta):
            run = Run(before.name,
                      max(started, before.starts) + 1, before.goes_on)
        elif name:
            run = Run(name, started + 1)
        else:
            run = Run(run.name, 1, UNNAMED)
    with files.os_errors_refused(f'{folder} cannot be written to',
                                 'make room, or name another --work-dir'):
        with files.written_whole(Path(folder, RUN)) as temporary:
            temporary.write_text(json.dumps(run._asdict()))
    return run


@contextmanager
def reserved(folder):
    """Keep all other runs out of a folder until this process ends.

    If the body fails the folder is free again, and as it was.

    Args:
        folder (str): made if need be.

    Raises:
        Refused: if another process has reserved it.
    """
    descriptor, refused, new = None, None, []
    if is_main_process():
        new = files.missing_folders(folder)
        try:
            files.make_folder(folder)
            descriptor = _reserve(Path(folder, LOCK))
        except Refused as error:
            refused = str(error)
    messages = [refused]
    broadcast_object_list(messages)
    if messages[0]:
        files.remove_empty(new)
        raise Refused(messages[0])
    try:
        yield
    except BaseException:
        if descriptor is not None:
            Path(folder, LOCK).unlink(missing_ok=True)
            os.close(descriptor)
        files.remove_empty(new)
        raise


def _reserve(path):
    """The descriptor of a locked file that says who has locked it."""
    while True:
        with files.os_errors_refused(f'{path} cannot be written',
                                     'name another --work-dir'):
            descriptor = system.open_plain(path, os.O_RDWR | os.O_CREAT)
        locked = system.lock(descriptor)
        if locked is False:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise Refused(
                f'{path.parent} is in use by another run, {holder}: wait for '
                'its end, or name another --work-dir')
        if locked and not _is_at(descriptor, path):
            os.close(descriptor)  # its holder removed it meanwhile
            continue
        if locked is None:
            log.warn(f'this system or the file system of {path.parent} has no '
                     'locks, so nothing keeps a second run from writing there')
        os.ftruncate(descriptor, 0)
        os.write(descriptor,
                 f'process {os.getpid()} on {socket.gethostname()}'.encode())
        return descriptor


def _holder(descriptor):
    text = os.read(descriptor, 200).decode(errors='replace')
    return text if text.isprintable() and text else 'of which nothing is known'


def _is_at(descriptor, path):
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _same(folder, other):
    return os.path.realpath(folder) == os.path.realpath(other)
