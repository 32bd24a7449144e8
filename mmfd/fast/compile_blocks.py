"""Blocks compiled, where a config says `compile`."""
import logging
from functools import partial

import torch
from mmengine.logging import print_log

from mmfd.errors import Refused
from mmfd.hosts import pytorch


def compile_blocks(model, options):
    """Compile the branches of a student's blocks, and a teacher's on a GPU.

    What drop path draws stays outside, so the number of images is all that
    differs from step to step. On a CPU a teacher's products are packed, which
    is worth more. Where there is no compiler the log says so and all stays as
    it is.

    Args:
        model (nn.Module): not yet trained.
        options (dict | bool): for `torch.compile`, as the host takes them.

    Returns:
        bool: whether the model has blocks to compile.

    Raises:
        Refused: for options that PyTorch does not know.
    """
    options = options if isinstance(options, dict) else {}
    blocks = [m for m in model.modules() if hasattr(m, 'branches_to_compile')]
    if not blocks:
        return False
    device = next(model.parameters()).device
    if not _compiles(device, options):
        return True
    compiled = {}  # one for all blocks of a kind
    for block in blocks:
        for name in block.branches_to_compile:
            branch = getattr(type(block), name)
            if branch not in compiled:
                compiled[branch] = torch.compile(branch, **options)
            setattr(block, name, partial(compiled[branch], block))
    teacher = getattr(model, 'teacher', None)
    if teacher is not None and device.type != 'cpu':
        teacher.backbone.compile(**options)
    print_log(
        f'{len(blocks)} blocks are compiled: the first two iterations take '
        'up to some minutes', 'current')
    return True


def _compiles(device, options):
    """Whether this machine does, tried out."""
    try:
        tried = torch.compile(torch.nn.functional.gelu, **options)
    except (RuntimeError, TypeError) as error:
        raise Refused(f'compile={options}: {error}') from error
    try:
        with pytorch.compiled_anew():
            tried(torch.ones(16, device=device))
    except Exception as error:  # of each backend its own
        lines = [*filter(None, str(error).split('\n'))]
        print_log(
            f'compile: this machine cannot ({type(error).__name__}: '
            f'{lines[0] if lines else ""}), so nothing is compiled. A C++ '
            'compiler brings it: apt install g++', 'current', logging.WARNING)
        return False
    return True
