"""Compile the students' blocks, where a config says `compile`."""
from functools import cache, partial

import torch

from mmfd.errors import Refused
from mmfd.fast import fixed_shapes
from mmfd.fast.fixed_shapes import FixedShape
from mmfd.hosts import log, pytorch


def compile_blocks(model, options):
    """Compile a student's blocks; on a GPU the teacher too.

    The draw of drop path stays outside. On a CPU the branches are compiled,
    for any number of images, and the teacher's packed weights are worth more
    than compiling it. On a GPU, where a launch takes as long as a small
    kernel, blocks of a ViT are compiled whole: all images go through all
    branches, so shapes are the same in every step. Where nothing can be
    compiled, a warning says so and the model stays as it is.

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
    on_gpu = device.type != 'cpu'
    whole = [block for block in blocks if on_gpu and hasattr(block, 'fixed')]
    compile_whole(whole, options)
    compile_branches([b for b in blocks if b not in whole], options)
    for module in model.modules() if on_gpu else ():
        if hasattr(module, 'compile_backbone'):  # a teacher hides its own
            module.compile_backbone(options)
    log.info(
        f'{len(blocks)} blocks are compiled: the first two iterations take '
        'up to some minutes')
    return True


def compile_branches(blocks, options):
    """Compile what lies between the draws of drop path, once for a kind."""
    compiled = cache(partial(torch.compile, **options))
    for block in blocks:
        for name in block.branches_to_compile:
            branch = compiled(getattr(type(block), name))
            setattr(block, name, partial(branch, block))


def compile_whole(blocks, options):
    """Compile blocks of fixed shapes, once for a kind."""
    compiled = cache(partial(fixed_shapes.compiled, options=options))
    for block in blocks:
        plain = type(block).branches
        block.fixed = True
        block.branches = FixedShape(block, plain, compiled(plain))


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
            'nothing is compiled. A C++ compiler brings it: apt install g++' +
            '; on a GPU Triton, too' * (device.type != 'cpu'))
        return False
    return True
