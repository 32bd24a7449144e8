"""Compile the students' blocks, where a config says `compile`."""
from functools import partial

import torch

from mmfd.errors import Refused
from mmfd.hosts import log, pytorch


def compile_blocks(model, options):
    """Compile the branches of a student's blocks; on a GPU the teacher too.

    The draw of drop path stays outside, so only the number of images differs
    from step to step. On a CPU the teacher's packed weights are worth more
    than compiling it. Where nothing can be compiled, a warning says so and
    the model stays as it is.

    Args:
        model (nn.Module): before training.
        options (dict | bool): arguments of `torch.compile`, as the host takes
            them.

    Returns:
        bool: whether the model has blocks to compile.

    Raises:
        Refused: for options that `torch.compile` does not know.
    """
    options = options if isinstance(options, dict) else {}
    blocks = [m for m in model.modules() if hasattr(m, 'branches_to_compile')]
    if not blocks:
        return False
    device = next(model.parameters()).device
    if not _can_compile(device, options):
        return True
    compiled = {}  # one for all blocks of a kind
    for block in blocks:
        for name in block.branches_to_compile:
            branch = getattr(type(block), name)
            if branch not in compiled:
                compiled[branch] = torch.compile(branch, **options)
            setattr(block, name, partial(compiled[branch], block))
    for module in model.modules() if device.type != 'cpu' else ():
        if hasattr(module, 'weights_replaced'):  # a teacher hides its own
            module.backbone.compile(**options)
    log.info(
        f'{len(blocks)} blocks are compiled: the first two iterations take '
        'up to some minutes')
    return True


def _can_compile(device, options):
    """Whether this machine can, by compiling something small."""
    try:
        compiled = torch.compile(torch.nn.functional.gelu, **options)
    except (RuntimeError, TypeError) as error:
        raise Refused(f'compile={options}: {error}') from error
    try:
        with pytorch.compiled_anew():
            compiled(torch.ones(16, device=device))
    except Exception as error:  # each compiler has its own
        lines = [*filter(None, str(error).split('\n'))]
        log.warn(
            'compile: this machine cannot compile '
            f'({type(error).__name__}: {lines[0] if lines else ""}), so '
            'nothing is compiled. A C++ compiler brings it: apt install g++')
        return False
    return True
