"""What the demo's scripts share: images, training runs and their logs."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from mmfd.data import toy_images

ROOT = Path(__file__).resolve().parents[1]
DATA = 'data/shapes'
DISTILLATION = 'simclr_fd'  # config, and work dir of the FD student
CHANCE = 100 / len(toy_images.CLASSES)  # top-1 accuracy in per cent


def draw_images():
    """Draw the training and test images into `DATA`, if they are not there."""
    print(f'drawing {sum(toy_images.SPLITS.values()):,} images into {DATA}')
    toy_images.write(DATA)


def train(config, *options):
    """Run `tools/train.py` on a config and print the lines of its progress.

    Returns:
        float: seconds that it took.
    """
    command = [ROOT / 'tools/train.py', config, *options]
    print(
        '\n$ python', *map(os.path.relpath, command[:2]), *options, flush=True)
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *command],
                          text=True,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        last = []
        for line in process.stdout:
            last = [*last[-15:], line]
            if line.startswith(('epoch ', 'iteration ')):
                print('  ' + line.rstrip(), flush=True)
    if process.returncode:
        sys.exit(''.join(last))
    return time.perf_counter() - start


def lines(name):
    """What all runs in a work dir logged, a dict for each line.

    A run that was stopped and went on has logged in two folders; what it did
    again counts once.
    """
    found = {
        ('loss' in line, line['step']): line
        for log in _logs(name)
        for line in _read(log)
    }
    return [*found.values()]


def scalars(name, key):
    """What the last run in a work dir logged under a key: [(step, value)]."""
    return [(line['step'], line[key]) for line in _read(_logs(name)[-1])
            if key in line]


def _logs(name):
    return sorted(Path('work_dirs', name).glob('*/vis_data/scalars.json'))


def _read(log):
    return [json.loads(line) for line in log.read_text().splitlines()]
