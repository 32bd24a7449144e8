"""What is said when a run begins and when it has ended."""
import os
import shlex
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.dist import get_world_size, is_main_process

from mmfd.hosts import openmmlab
from mmfd.registry import branches_of
from mmfd.training import curves
from mmfd.training.hooks import SKIPPED_IMAGES
from mmfd.training.stop_signals import how_to_go_on


def beginning(runner):
    """What is trained, on what, and where everything goes: lines of text.

    Args:
        runner (Runner): as `prepare` returns it.
    """
    model = openmmlab.unwrapped(runner.model)
    cfg, loader = runner.cfg, runner.train_dataloader
    rows = []
    branches = branches_of(cfg.model)
    for name, branch in branches.items():
        backbone = model.branches[name].teacher.backbone
        rows += [('teacher', f'{name} {_described(backbone)}, '.lstrip() +
                  _relative(branch.teacher.checkpoint))]
    backbone = getattr(model, 'backbone', model)
    rows += [('student' if branches else 'network', _described(backbone))]
    if not branches:
        rows += [('model', _described(model))]
    images = (
        loader.batch_sampler.batch_size * get_world_size() *
        openmmlab.accumulative_counts(runner.optim_wrapper))
    processes = f'{get_world_size()} x ' * torch.cuda.is_available()
    rows += [('run', f'{_length(runner)}, {images:,} images an update'),
             ('device', f'{processes}{device()}, '
              f'{_precision(runner.optim_wrapper)}'),
             ('output', _relative(runner.work_dir)),
             ('log', _relative(runner.logger.log_file or runner.log_dir))]
    return '\n'.join(f'{name:9}{text}' for name, text in rows)


def ending(runner, seconds):
    """What a run has written, and what to do with it: lines of text.

    The curves are drawn first, to be named.

    Args:
        runner (Runner): that has trained.
        seconds (float): that it took.
    """
    written = runner.message_hub.runtime_info
    last = written.get('last_ckpt')
    lines = [f'done in {timedelta(seconds=round(seconds))}']
    if best := written.get('best_ckpt'):
        lines += [f'  best     {_relative(best)}']
    lines += [f'  last     {_relative(last)}'] if last else []
    if is_main_process() and (picture := curves.draw(runner.work_dir)):
        lines += [f'  curves   {_relative(picture)}']
    skipped = Path(runner.work_dir) / SKIPPED_IMAGES
    if skipped.exists():
        lines += [f'  skipped  images are listed in {_relative(skipped)}']
    config = _relative(getattr(runner.cfg, 'filename', None) or 'CONFIG')
    if last:
        lines += ['next']
        lines += [f'  {line}' for line in _next(runner, config, last)]
    return '\n'.join(lines)


def interrupted(runner):
    """What is left of a run that a Ctrl-C ends at once: lines of text.

    As under the host's checkpoint hook; ours writes a checkpoint then.
    """
    last = runner.message_hub.runtime_info.get('last_ckpt')
    left = (f'from {_relative(last)} {how_to_go_on()}'
            if last else 'it has written no checkpoint yet')
    return f'Ctrl-C ends this run after iteration {runner.iter:,}; {left}'


def _next(runner, config, last):
    """Commands that a user may want to run now."""
    config, last = shlex.quote(config), shlex.quote(_relative(last))
    if branches_of(runner.cfg.model):
        yield f'mmfd export {last} student.pth'
        yield f'mmfd analyze {config} {last} --images DIR --out DIR'
    elif runner.cfg.get('test_dataloader'):
        yield f'mmfd test {config} {last}'
        yield f'mmfd draw {config} {last} IMAGES --out DIR'
    if runner.visualizer.get_backend('TensorboardVisBackend'):
        folder = shlex.quote(_relative(runner.work_dir))
        yield f'tensorboard --logdir {folder}'


def _described(network):
    count = sum(p.numel() for p in network.parameters())
    return f'{type(network).__name__}, {count / 1e6:.3g} M parameters'


def _length(runner):
    if runner.max_epochs and runner.max_epochs > 1:
        return (f'{runner.max_epochs} epochs of '
                f'{len(runner.train_dataloader):,} iterations')
    return f'{runner.max_iters:,} iterations'


def device():
    """What this process computes on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f'CPU, {threads} thread' + 's' * (threads > 1)


def _precision(wrapper):
    dtype = getattr(wrapper, 'dtype', None)
    return str(dtype).removeprefix('torch.') if dtype else 'fp32'


def _relative(path):
    """A path as short as it can be said from here."""
    path, here = str(path), os.getcwd()
    inside = os.path.abspath(path).startswith(here + os.sep)
    return os.path.relpath(path) if inside else path
