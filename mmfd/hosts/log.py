"""The log: what mmfd says itself, and what the libraries below it say.

Everything goes to the log file of a run. A console shows what mmfd says, and
warnings of the libraries, but not those that mean nothing to a user.
"""
import importlib
import io
import logging
import os
import re
import textwrap
import warnings
from contextlib import redirect_stdout

from mmengine.logging import MMLogger

NEEDED = 'resumed epoch: ',  # what the host says and users need to know
# Beginnings of warnings that no setting of a user has caused or can mend.
MEANINGLESS = (
    'Failed to search registry with scope',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    '`save_param_scheduler` is True but',
    '`resume_param_scheduler` is True but',
    'The prefix is not set in metric class',
    'Reset `metainfo`',
    'Visualizer backend is not initialized',
    'Line NMS is not compiled',
)
TALKATIVE = 'mmpretrain', 'mmseg', 'mmdet'  # they print when imported
MEANINGLESS_IN_PYTHON = (  # the same, by Python's own warnings
    'Multi-processing start method',
    'torch.meshgrid: in an upcoming release',
    'pkg_resources is deprecated',
    "'pin_memory' argument is set as true but no accelerator",
    'Default ``avg_non_ignore`` is False',
    '`reduce_zero_label` will be deprecated',
    'faster_coco_eval is not installed, metrics will not be computed',
    'The draw is False, it means that the hook for visualization',
)
COMMAND = re.compile(r'\s*(mmfd|python|tensorboard|tools/\S+) ')
HANGING = re.compile(r'\s*(\w+ {2,})?')  # what further lines are indented by


def wrapped(text, stream):
    """Text whose lines fit into a terminal, broken between words.

    A command stays on one line, to be copied, and so does a path with its
    name. Where a stream is no terminal, nothing is changed.

    Args:
        stream (TextIO): that it will be written to.
    """
    if not stream.isatty():
        return text
    columns = os.get_terminal_size(stream.fileno()).columns or 80
    return '\n'.join(_wrapped(line, columns - 1) for line in text.split('\n'))


def _wrapped(line, width):
    if len(line) <= width or COMMAND.match(line) or len(line.split()) < 3:
        return line
    return textwrap.fill(
        line,
        width,
        subsequent_indent=' ' * len(HANGING.match(line)[0]),
        break_long_words=False,
        break_on_hyphens=False)


def info(text):
    """Log what a user of mmfd is to read: in the log file and on the console.

    Where no run has begun, it is the log of the process.
    """
    MMLogger.get_current_instance().info(text, extra=dict(of_mmfd=True))


def warn(text):
    """Log a warning, which a console shows too."""
    MMLogger.get_current_instance().warning(text)


def is_for_users(record):
    """Whether a console shows a `logging.LogRecord`."""
    text = record.getMessage()
    if record.levelno >= logging.WARNING:
        return not text.startswith(MEANINGLESS)
    return getattr(record, 'of_mmfd', False) or text.startswith(NEEDED)


def hide_meaningless():
    """Hide the meaningless among Python's own warnings."""
    for beginning in MEANINGLESS_IN_PYTHON:
        warnings.filterwarnings('ignore', message=re.escape(beginning))


def import_silently(library):
    """Import the data sets of a library that prints what it does without."""
    if library in TALKATIVE:
        with prints_discarded():
            importlib.import_module(f'{library}.datasets')


def prints_discarded():
    """Discard what libraries print, not what they log: a context manager.

    pycocotools prints four lines whenever it reads annotations.
    """
    return redirect_stdout(io.StringIO())
