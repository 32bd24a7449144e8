"""Check that files written by an older commit can still be used.

    python benchmarks/old_files.py c6027fe

The older commit trains a small copy of the demo's distillation twice: once to
the end, and once until SIGTERM stops it in the middle of an epoch. This
working tree then resumes the stopped run twice, with its own config and with
the config that the older commit wrote into the work dir. Losses, gradient
norms, learning rates and the losses of the held-out images, from the first
step to the last, must equal those of the run that was not stopped, to the last
bit; what else is logged may have changed. Both commits also export the
checkpoint of the stopped run, in all three forms, which must hold equal
tensors. It takes about three minutes, on one CPU thread. `--keep DIR` keeps
the files.
"""
import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file
from ten_steps import (BATCH, ROOT, check_out, environ, equal_tensors, logged,
                       run)

from mmfd.data import toy_images

STEPS, STOP = 40, 27  # an epoch has 20 steps
COMPUTED = 'loss', 'grad_norm', 'lr', 'held_out/loss'
CONFIG = '''
_base_ = {base!r}
loader = dict(
    num_workers=0, persistent_workers=False, batch_size={batch},
    dataset=dict(data_root={images!r}))
train_dataloader = val_dataloader = test_dataloader = loader
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
# the collapse monitor, which once was a custom hook
(_base_.default_hooks.get('monitor') or _base_.custom_hooks[0]).interval = 1
'''


def write_config(tree, folder, name):
    """Write a config that builds on the demo of a tree; its path."""
    path = folder / name
    path.write_text(
        CONFIG.format(
            base=str(tree / 'configs/demo/simclr_fd.py'),
            images=str(folder / 'images/imagenet'),
            batch=BATCH))
    return path


def steps(work_dir):
    """How many training steps a run has logged so far."""
    return sum(file.read_text().count('"loss":')
               for file in work_dir.glob('*/vis_data/scalars.json'))


def train_and_stop(tree, config, work_dir):
    """Train until `STOP` steps are logged, then send SIGTERM."""
    command = 'tools/train.py', config, '--work-dir', work_dir
    with subprocess.Popen([sys.executable, *command],
                          cwd=tree,
                          env=environ(tree),
                          stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and steps(work_dir) < STOP:
            time.sleep(0.01)
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM, process.returncode
    assert STOP <= steps(work_dir) < STEPS, steps(work_dir)


def numbers(work_dir):
    """What the runs in a work dir logged of what they computed."""
    lines = ({
        key: value
        for key, value in line.items() if key in COMPUTED
    } for line in logged(work_dir))
    return [line for line in lines if line]


def resume(config, stopped, work_dir):
    """Copy a stopped run, go on from it; the numbers of both parts."""
    shutil.copytree(stopped, work_dir)
    run(ROOT, 'tools/train.py', config, '--work-dir', work_dir, '--resume')
    return numbers(work_dir)


def exported(tree, checkpoint, to, file):
    """The tensors of an exported checkpoint."""
    run(tree, 'tools/export.py', checkpoint, file, '--to', to)
    return load_file(file)


def report(what, equal):
    print(f'{what:50}{"equal" if equal else "DIFFERENT"}', flush=True)
    return equal


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('commit', metavar='COMMIT')
    parser.add_argument('--keep', metavar='DIR', help='a new folder')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(args.keep or folder).resolve()
        folder.mkdir(exist_ok=True)
        toy_images.write(folder / 'images',
                         dict(train=STEPS // 2 * BATCH, val=30))
        old = check_out(args.commit, folder / 'old')
        config = write_config(old, folder, 'fd.py')
        run(old, 'tools/train.py', config, '--work-dir', folder / 'whole')
        train_and_stop(old, config, folder / 'stopped')
        results = []
        checkpoint, = (folder / 'stopped').glob('interim_*.pth')
        for to in 'backbone', 'timm', 'hf':
            ours, theirs = (
                exported(tree, checkpoint, to,
                         folder / f'{to}_{tree.name}.safetensors')
                for tree in (ROOT, old))
            results.append(
                report(f'exported to {to}', equal_tensors(ours, theirs)))
        whole = numbers(folder / 'whole')
        assert len(whole) == STEPS + 2, len(whole)
        for what, config in {
                'its own config': write_config(ROOT, folder, 'new.py'),
                'the old one': folder / 'stopped/fd.py'
        }.items():
            both = resume(config, folder / 'stopped', folder / config.stem)
            results.append(report(f'resumed with {what}', both == whole))
    sys.exit(not all(results))


if __name__ == '__main__':
    main()
