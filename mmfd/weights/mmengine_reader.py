"""Checkpoints as mmengine's Runner needs them to resume."""
import logging

import numpy as np
from mmengine.logging import HistoryBuffer, print_log

from mmfd.errors import Refused
from mmfd.weights import checkpoints
from mmfd.weights.pickled_names import Stub

NUMBERS = {'f4', 'f8', 'i4', 'i8'}  # types of NumPy that log histories have


def load_for_mmengine(filename, map_location=None):
    """`checkpoints.load`, with mmengine's log histories rebuilt.

    To be given to `hosts.openmmlab.set_checkpoint_loader`. mmengine's own
    loader treats `getattr` as harmless, but a file can run any code through
    it, in spite of PyTorch's `weights_only`. And mmengine runs the text at
    `meta['config']` as Python when it resumes, so that text is left out.

    Raises:
        Refused: as `checkpoints.load`, and if a log history is damaged.
    """
    checkpoint = checkpoints.load(filename)
    if not isinstance(checkpoint, dict):
        return checkpoint
    meta = checkpoint.get('meta')
    if isinstance(meta, dict) and meta.pop('config', None) is not None:
        print_log(
            f'{filename}: the config in it was left out, because mmengine '
            'would run it as Python', 'current', logging.WARNING)
    rebuild_histories(checkpoint, filename)
    return checkpoint


def rebuild_histories(checkpoint, filename):
    """Put mmengine's log histories in the place of `checkpoints.Stub`s.

    Args:
        checkpoint (dict): what `checkpoints.load` read; changed in place.
        filename (str): of its file.

    Raises:
        Refused: if a log history is damaged.
    """
    if 'message_hub' in checkpoint:
        try:
            checkpoint['message_hub'] = _rebuilt(checkpoint['message_hub'])
        except Exception as error:  # a file may hold anything there
            raise Refused(f'{filename} holds a log history that is no list '
                          f'of numbers: {error}') from error


def _rebuilt(node):
    """Numbers, arrays and histories in the place of `Stub`s."""
    if isinstance(node, dict):
        return type(node)(
            (key, _rebuilt(value)) for key, value in node.items())
    if not isinstance(node, Stub):
        return node
    if isinstance(node.state, dict):
        return HistoryBuffer(
            _rebuilt(node.state['_log_history']),
            _rebuilt(node.state['_count_history']),
            int(node.state['max_length']))
    if node.state is None:  # a NumPy scalar: its type and its bytes
        dtype, data = node.args
        return _array(dtype, data)[0].item()
    _, _, dtype, _, data = node.state  # an array, as NumPy pickles it
    return _array(dtype, data)


def _array(dtype, data):
    name = dtype.args[0]
    if name not in NUMBERS:
        raise Refused(f'it is of type {name!r}')
    return np.frombuffer(data, name)
