"""Arguments that the commands share, and how they print a refusal.

This file imports nothing heavy: a path that is not there is refused at once.
"""
import signal
import sys
import time
from argparse import Action, ArgumentParser, RawTextHelpFormatter
from contextlib import contextmanager
from io import TextIOWrapper

from mmfd import files
from mmfd.errors import Refused
from mmfd.hosts import pytorch_errors, system
from mmfd.launch import ranks
from mmfd.launch.option_values import value_of

GOES_ON = '--resume goes on from the last checkpoint'


class Options(Action):
    """An argument of KEY=VALUE pairs; `value_of` says what a VALUE means."""

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest))
        for pair in values:
            key, equals, text = pair.partition('=')
            if not equals:
                parser.error(f'{option_string} {pair}: expected KEY=VALUE')
            try:
                options[key] = value_of(text)
            except ValueError as error:
                parser.error(f'{option_string} {pair}: {error}')
        setattr(namespace, self.dest, options)


def parser_of(text):
    """The parser of a command, whose help begins with a text as it is."""
    return ArgumentParser(
        description=text, formatter_class=RawTextHelpFormatter)


def add_arguments(parser):
    """Add the arguments of every command that runs a config.

    Args:
        parser (ArgumentParser): changed in place.
    """
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--data-root',
        nargs='+',
        metavar='DIR',
        help='folders of images, which replace every data_root')
    add_cfg_options(parser, 'the config')
    parser.add_argument(
        '--verbose',
        action='store_true',
        help='print all that goes to the log file')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='who started the processes: set by dist_*.sh and slurm_*.sh')
    parser.add_argument(
        '--local-rank',
        '--local_rank',
        type=int,
        default=0,
        help='number of this process on its machine: set by the launcher')


def add_cfg_options(parser, overridden):
    """Add `--cfg-options`, which override what is named so in its help."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        default={},
        metavar='KEY=VALUE',
        help=f'settings that override {overridden}')


@contextmanager
def one_message():
    """Print `Refused` as one message and end with exit status 1.

    The same for a full disk, and for a process that does not answer or was
    killed. Ctrl-C ends with status 130. Every other error is a bug, and keeps
    its traceback.
    What is printed may name files, and their names may be no text.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        with _workers_forgotten_on_error(), _cause_left():
            yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Refused as error:
        _end(pytorch_errors.message_of(error))
    except BrokenPipeError as error:
        if not system.leave_closed_console(error):
            _end(_reader_ended(type(error).__name__))
        sys.exit(128 + signal.SIGPIPE)  # nobody reads what is printed
    except (ConnectionError, EOFError) as error:  # amid handing over images
        _end(_reader_ended(type(error).__name__))
    except OSError as error:
        if not files.has_no_room(error):
            raise
        _end(error)
    except RuntimeError as error:
        if worker := pytorch_errors.dead_worker(error):
            _end(_reader_ended(worker))
        if not pytorch_errors.is_of_another_process(error):
            raise
        from mmfd.launch import lost_processes
        seconds = pytorch_errors.timeout_of(error)
        _end(f'{lost_processes.lost(seconds)}. {GOES_ON}')


@contextmanager
def _cause_left():
    """Tell the other processes of a run why this one ends.

    One that has not even imported PyTorch has joined none.
    """
    try:
        yield
    except Exception as error:
        if 'torch' in sys.modules and (
                not pytorch_errors.is_of_another_process(error)):
            from mmfd.launch import lost_processes
            lost_processes.leave_cause(error)
        raise


@contextmanager
def _workers_forgotten_on_error():
    """An error of a reading process often comes twice: by what it did not
    send, and by a signal a moment later."""
    try:
        yield
    except BaseException:
        pytorch_errors.forget_workers()
        raise


def _reader_ended(reason):
    return (f'a process that reads images has ended ({reason}), as where '
            'memory runs out: lower num_workers of the dataloaders, or give a '
            f'container more shared memory (--shm-size). {GOES_ON}')


def _end(message):
    if ranks.rank():  # the first of a machine ends the others there
        time.sleep(10 if ranks.local_rank() else 2)
    sys.exit(f'error: {_printable(str(message))}')


def _printable(text):
    """Cut off, and without control characters, which a file may contain."""
    return ''.join(c if c.isprintable() or c == '\n' else f'\\x{ord(c):02x}'
                   for c in text[:5000])
