"""Small training runs: start, finish, and read what they logged and saved."""
import json
import socket
from pathlib import Path

from helpers import commands
from helpers.commands import kill, wait_for  # noqa: F401

from mmfd.weights import checkpoints

# 12 iterations with everything that has a state: drop path, flips, the mean
# over three iterations in the log, EMA, moments, the best checkpoint so far
CONFIG = '''
_base_ = '{repo}/configs/demo/simclr_fd.py'
small = dict(
    _delete_=True,
    embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
model = dict(
    teacher=dict(
        checkpoint='random', img_size=32,
        backbone=dict(arch=small, img_size=32)),
    backbone=dict(arch=small, img_size=32, drop_path_rate=0.2),
    neck=dict(in_channels=32, out_channels=32))
crop = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.RandomResizedCrop', scale=32, backend='pillow'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs')]
resize = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=32),
    dict(type='mmpretrain.PackInputs')]
loader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{root}/imagenet'))
train_dataloader = dict(loader, batch_size=30)
train_dataloader['dataset'] = dict(loader['dataset'], pipeline=crop)
val_dataloader = dict(loader, batch_size=5)
val_dataloader['dataset'] = dict(loader['dataset'], pipeline=resize)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=3, val_interval=2)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(minutes=0.002, max_keep_ckpts=2, interval=1))
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
log_processor = dict(window_size=3)
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
'''
TIMES = 'time', 'data_time', 'img_per_s', 'data_wait'  # differ in each run


def start(config, work_dir, *arguments, options=(), tool='train'):
    """Start a command on a config; its output goes to `work_dir`.log.

    Args:
        config, work_dir (Path): arguments of the command.
        arguments: more of them.
        options (tuple[str]): values of `--cfg-options`.
        tool (str): `train` or `test`.

    Returns:
        multiprocessing.Process: started.
    """
    arguments = [config, *arguments, '--verbose', '--work-dir', work_dir]
    if options:
        arguments += ['--cfg-options', *options]
    return commands.start(tool, *arguments, log=f'{work_dir}.log')


def finish(process, work_dir, code=0, seconds=600):
    """Wait for the end of a command; `code` is its expected exit status."""
    commands.finish(process, f'{work_dir}.log', code, seconds)


def run(config,
        work_dir,
        *arguments,
        options=(),
        tool='train',
        processes=1,
        code=0,
        seconds=600):
    """Run a command to its end, in several processes of one group if told.

    Args:
        config, work_dir, arguments, options, tool: as of `start`.
        processes (int): how many, which train one model together.
        code (int): expected exit status.
        seconds (float): that it may take.

    Returns:
        str: what it printed.
    """
    arguments = [config, *arguments, '--verbose', '--work-dir', work_dir]
    if processes > 1:
        arguments += ['--launcher', 'pytorch']
    if options:
        arguments += ['--cfg-options', *options]
    together(
        processes,
        tool,
        *arguments,
        log=f'{work_dir}.log',
        code=code,
        seconds=seconds)
    return log(work_dir)


def together(processes, tool, *arguments, log, code=0, seconds=600):
    """Run a command in processes that find each other as torchrun's do."""
    group = dict(
        WORLD_SIZE=processes,
        LOCAL_WORLD_SIZE=processes,
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=free_port())
    started = [
        commands.start(
            str(tool),
            *arguments,
            log=log,
            env=dict(group, RANK=rank, LOCAL_RANK=rank))
        for rank in range(processes)
    ]
    try:
        for process in started:
            commands.finish(process, log, code, seconds)
    finally:
        for process in started:
            kill(process)


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def log(work_dir):
    """All that was printed by the commands with this work dir."""
    file = Path(f'{work_dir}.log')
    return file.read_text() if file.exists() else ''


def lines(work_dir):
    """The lines of the JSON log of all runs in a work dir, each a dict."""
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # the run was killed while it wrote the line
                pass


def curves(work_dir):
    """What was logged, each time.

    Returns:
        dict: (`train` or `monitor`, iteration) or (`val`, epoch) -> a list of
        dicts.
    """
    logged = {}
    for line in lines(work_dir):
        kind = ('train' if 'lr' in line else
                'monitor' if 'explained' in line else 'val')
        values = {k: v for k, v in line.items() if k not in TIMES}
        logged.setdefault((kind, line['step']), []).append(values)
    return logged


def losses(work_dir):
    """The logged losses of training, in order."""
    return [line['loss'] for line in lines(work_dir) if 'lr' in line]


def final(work_dir, name='epoch_3.pth'):
    """The content of a checkpoint, by default of the last one of CONFIG."""
    return checkpoints.load(Path(work_dir, name))
