"""Distil, fine-tune and compare on images that mmfd draws itself.

    make demo
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from mmfd.data import toy_images  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA, PICTURE = 'data/shapes', 'work_dirs/demo.png'
DISTILLATION = 'simclr_fd'
ROWS = {  # config -> (name, colour that the colour-blind tell apart)
    'simclr_shapes': ('teacher (SimCLR)', '#E69F00'),
    'simclr_fd_shapes': ('FD student', '#0072B2'),
    'scratch_shapes': ('same student from scratch', '#777777'),
}
NEXT = """
Next, with your own images and a teacher of the paper (an ImageNet-style
folder at data/imagenet, OpenAI's ViT-B-16.pt):

    python tools/convert.py openai-clip ViT-B-16.pt checkpoints/clip_vitb16.pth
    python tools/train.py configs/fd/clip_vitb_fd.py
    python tools/train.py configs/classification/clip_vitb_fd_in1k.py

README.md says how to bring another folder, and where to add a teacher.
make demo-transfer takes this student into a segmentor and a detector.
"""


def train(config, *options):
    """Run tools/train.py on a config; return the seconds it took."""
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
            if 'INFO - Epoch(' in line or 'INFO - Iter(' in line:
                print('  ' + line.split('INFO - ')[1].rstrip(), flush=True)
    if process.returncode:
        sys.exit(''.join(last))
    return time.perf_counter() - start


def scalars(config, key):
    """What the last run of a config logged under a key: [(step, value)]."""
    run = sorted(Path('work_dirs', config).glob('*/vis_data/scalars.json'))[-1]
    lines = map(json.loads, run.read_text().splitlines())
    return [(line['step'], line[key]) for line in lines if key in line]


def draw(path):
    """One picture: the distillation's loss, and the three accuracies."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    left.plot(*zip(*scalars(DISTILLATION, 'loss')), color='#0072B2')
    left.set(
        title='distillation',
        xlabel='iteration',
        ylabel='smooth-L1 loss',
        ylim=0)
    for config, (name, colour) in ROWS.items():
        epochs, top1 = zip(*scalars(config, 'accuracy/top1'))
        right.plot(epochs, top1, 'o-', color=colour, label=name)
    right.set(title='fine-tuning', xlabel='epoch', ylabel='top-1 (%)', ylim=0)
    right.axhline(
        100 / len(toy_images.CLASSES), color='#777777', ls=':', label='chance')
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.legend(frameon=False, loc='center right')
    for axis in (left, right):
        axis.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    start = time.perf_counter()
    print(f'drawing {sum(toy_images.SPLITS.values()):,} images into {DATA}')
    toy_images.write(DATA)
    seconds = {
        name: train(ROOT / f'configs/demo/{name}.py')
        for name in (DISTILLATION, *ROWS)
    }
    draw(PICTURE)
    print(f'\n{"":28}top-1 (%)   fine-tuning (s)')
    for config, (name, _) in ROWS.items():
        top1 = scalars(config, 'accuracy/top1')[-1][1]
        print(f'{name:28}{top1:9.1f}{seconds[config]:18.0f}')
    print(f'distillation {seconds[DISTILLATION]:.0f} s, everything '
          f'{time.perf_counter() - start:.0f} s; curves in {PICTURE}')
    print(NEXT)


if __name__ == '__main__':
    main()
