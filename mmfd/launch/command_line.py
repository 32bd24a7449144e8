"""What the commands share before anything heavy is imported."""
import errno
import re
import sys
import time
from contextlib import contextmanager

from mmengine.config import DictAction

from mmfd.errors import Refused
from mmfd.launch import processes

FULL = errno.ENOSPC, errno.EDQUOT, errno.EROFS  # nowhere to write to


class Options(DictAction):
    """KEY=VALUE pairs, as the host reads them."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} {value}: expected KEY=VALUE')
        super().__call__(parser, namespace, values, option_string)


def add_arguments(parser):
    """What every command that runs a config takes."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--data-root',
        nargs='+',
        metavar='DIR',
        help='folders of images, in the place of every data_root')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        default={},
        metavar='KEY=VALUE',
        help='settings that override the config')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='who started the processes: dist_*.sh and slurm_*.sh say it')
    parser.add_argument(
        '--local-rank',
        '--local_rank',
        type=int,
        default=0,
        help='this process among those of its machine: said by the launcher')


@contextmanager
def one_message():
    """Turn what mmfd refuses into one message and exit status 1.

    So are a full disk and a process that does not answer. Every other error is
    a bug, and keeps its traceback.
    """
    try:
        yield
    except Refused as error:
        # one from a worker of a DataLoader comes with that one's traceback
        _end(str(error).strip().rpartition('mmfd.errors.Refused: ')[2])
    except OSError as error:
        if error.errno not in FULL:
            raise
        _end(error)
    except RuntimeError as error:
        silent = re.search(r'Timed out waiting (\d+)ms', str(error))
        if not silent:
            raise
        _end(f'no answer from another process for {int(silent[1]) / 1000:g} '
             's, which is env_cfg.dist_cfg.timeout; it hangs, or its machine '
             'is gone. --resume goes on from the last checkpoint')


def _end(message):
    if processes.rank():  # the first says it for all, and ends them
        time.sleep(5)
    sys.exit(f'error: {_printable(str(message))}')


def _printable(text):
    """Cut, and without what a name in a file could do to the screen."""
    return ''.join(c if c.isprintable() or c == '\n' else f'\\x{ord(c):02x}'
                   for c in text[:5000])
