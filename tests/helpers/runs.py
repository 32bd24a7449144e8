"""Small runs of tools/train.py, to be hurt by the tests beside this file."""
import json
from pathlib import Path

from helpers import commands
from helpers.commands import kill, wait_for  # noqa: F401

from mmfd.weights import checkpoints

# 12 iterations with all that has a state: drop path, flips, mean over three
# iterations in the log, EMA, moments, the best checkpoint so far
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
OF_THE_CLOCK = 'time', 'data_time', 'img_per_s', 'data_wait'


def start(config, work_dir, *arguments, options=(), tool='train'):
    """A process that does what the command line would."""
    arguments = [config, *arguments, '--work-dir', work_dir]
    if options:
        arguments += ['--cfg-options', *options]
    return commands.start(tool, *arguments, log=f'{work_dir}.log')


def finish(process, work_dir, code=0, seconds=120):
    commands.finish(process, f'{work_dir}.log', code, seconds)


def log(work_dir):
    file = Path(f'{work_dir}.log')
    return file.read_text() if file.exists() else ''


def lines(work_dir):
    """What all runs there have logged, each a dict."""
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # cut off by the kill
                pass


def curves(work_dir):
    """Of each iteration or epoch, what was logged of it each time."""
    found = {}
    for line in lines(work_dir):
        kind = 'train' if 'lr' in line else 'val'
        kept = {k: v for k, v in line.items() if k not in OF_THE_CLOCK}
        found.setdefault((kind, line['step']), []).append(kept)
    return found


def final(work_dir, name='epoch_3.pth'):
    return checkpoints.load(Path(work_dir, name))
