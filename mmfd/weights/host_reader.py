"""How the host reads checkpoints here: tensors and numbers, and no calls."""
import logging

import numpy as np
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner.checkpoint import CheckpointLoader

from mmfd.errors import Refused
from mmfd.weights import checkpoints

NUMBERS = {'f4', 'f8', 'i4', 'i8'}


def install():
    """Let the host read files through `checkpoints.load`.

    Its own reader has a list of what it takes for harmless, and `getattr` is
    on it: enough for a file to run what it likes, PyTorch's `weights_only`
    notwithstanding.
    """
    CheckpointLoader.register_scheme('', loader=load_from_file, force=True)


def load_from_file(filename, map_location=None):
    """What `checkpoints.load` gives, as the host can go on from it.

    Its log histories are whole, and there is no config as text, which the
    host would run as Python when it resumes.

    Raises:
        Refused: as `checkpoints.load`.
    """
    checkpoint = checkpoints.load(filename)
    if not isinstance(checkpoint, dict):
        return checkpoint
    meta = checkpoint.get('meta')
    if isinstance(meta, dict) and meta.pop('config', None) is not None:
        print_log(
            f'{filename}: the config in it was left out, as the host would '
            'run it as Python', 'current', logging.WARNING)
    if 'message_hub' in checkpoint:
        try:
            checkpoint['message_hub'] = _whole(checkpoint['message_hub'])
        except (TypeError, ValueError, KeyError, AttributeError, IndexError,
                RecursionError) as error:
            raise Refused(f'{filename} holds a log history that is no list '
                          f'of numbers: {error}') from error
    return checkpoint


def _whole(node):
    """Numbers and histories in the place of `checkpoints.Kept`."""
    if isinstance(node, dict):
        return type(node)((key, _whole(value)) for key, value in node.items())
    if not isinstance(node, checkpoints.Kept):
        return node
    if isinstance(node.state, dict):
        return HistoryBuffer(
            _whole(node.state['_log_history']),
            _whole(node.state['_count_history']),
            int(node.state['max_length']))
    if node.state is None:  # a NumPy scalar: its type and its bytes
        kind, data = node.args
        return _numbers(kind, data)[0].item()
    _, _, kind, _, data = node.state  # an array, as NumPy pickles it
    return _numbers(kind, data)


def _numbers(kind, data):
    if kind.args[0] not in NUMBERS:
        raise Refused(f'it is of type {kind.args[0]!r}')
    return np.frombuffer(data, kind.args[0])
