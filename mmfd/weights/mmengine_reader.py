"""Checkpoints as mmengine's Runner needs them to resume."""
import re

import numpy as np
from mmengine.logging import HistoryBuffer

from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.weights import checkpoints
from mmfd.weights.pickled_names import Stub

NUMBERS = re.compile('b1|[iu][1248]|f[248]')  # types of NumPy
HOLD_NUMBERS = 'message_hub', 'meta', 'optimizer', 'param_schedulers'


def load_for_mmengine(filename, map_location=None):
    """`checkpoints.load`, with log histories and NumPy's numbers rebuilt.

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
        log.warn(
            f'{filename}: the config in it was left out, because mmengine '
            'would run it as Python')
    rebuild_numbers(checkpoint, filename)
    return checkpoint


def rebuild_numbers(checkpoint, filename):
    """Put log histories and NumPy's numbers in the place of `Stub`s.

    Numbers are plain ones, as a schedule may have computed the lr by NumPy.

    Args:
        checkpoint (dict): what `checkpoints.load` read; changed in place.
        filename (str): of its file.

    Raises:
        Refused: if one of them is damaged.
    """
    for key in HOLD_NUMBERS & checkpoint.keys():
        try:
            checkpoint[key] = _rebuilt(checkpoint[key])
        except Exception as error:  # a file may hold anything there
            raise Refused(f'{filename} holds a log history or an array that '
                          f'is not of numbers: {error}') from error


def _rebuilt(node):
    """Numbers, arrays and histories in the place of `Stub`s."""
    if isinstance(node, dict):
        return type(node)(
            (key, _rebuilt(value)) for key, value in node.items())
    if type(node) in (list, tuple):
        return type(node)(map(_rebuilt, node))
    if not isinstance(node, Stub):
        return node
    match node.args, node.state:
        case _, {'_log_history': log, '_count_history': counts} as state:
            return HistoryBuffer(
                _rebuilt(log), _rebuilt(counts), int(state['max_length']))
        case (Stub() as dtype, bytes() as data), None:  # NumPy's scalar
            numbers = _numbers(dtype, data)
            return node if numbers is None else numbers.item()
        case _, (_, shape, Stub() as dtype, by_column, bytes() as data):
            numbers = _numbers(dtype, data)  # of an array
            return node if numbers is None else numbers.reshape(
                shape, order='F' if by_column else 'C')
        case (bytes() as data, Stub() as dtype, shape, order), None:
            numbers = _numbers(dtype, data)  # of one in protocol 5
            return node if numbers is None else numbers.reshape(
                shape, order=order)
    return node


def _numbers(dtype, data):
    """What bytes stand for; None if that is no numbers."""
    if NUMBERS.fullmatch(dtype.args[0]):
        return np.frombuffer(data, dtype.state[1] + dtype.args[0])
