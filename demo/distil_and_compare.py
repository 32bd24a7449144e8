"""Distil, fine-tune and compare, on images that mmfd draws itself.

    make demo
"""
import time

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from runs import CHANCE, DISTILLATION, ROOT, draw_images, scalars, train

PICTURE = 'work_dirs/demo.png'
FINE_TUNED = {  # config -> name, and a colour that the colour-blind tell apart
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


def draw(path):
    """One picture: the distillation's loss, and the three accuracies."""
    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*scalars(DISTILLATION, 'loss')), color='#0072B2')
    left.set(
        title='distillation',
        xlabel='iteration',
        ylabel='smooth-L1 loss',
        ylim=0)
    for config, (name, colour) in FINE_TUNED.items():
        epochs, top1 = zip(*scalars(config, 'accuracy/top1'))
        right.plot(epochs, top1, 'o-', color=colour, label=name)
    right.set(title='fine-tuning', xlabel='epoch', ylabel='top-1 (%)', ylim=0)
    right.axhline(CHANCE, color='#777777', ls=':', label='chance')
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.legend(frameon=False, loc='center right')
    for axis in (left, right):
        axis.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    start = time.perf_counter()
    draw_images()
    seconds = {
        name: train(ROOT / f'configs/demo/{name}.py')
        for name in (DISTILLATION, *FINE_TUNED)
    }
    draw(PICTURE)
    print(f'\n{"":28}top-1 (%)   fine-tuning (s)')
    for config, (name, _) in FINE_TUNED.items():
        top1 = scalars(config, 'accuracy/top1')[-1][1]
        print(f'{name:28}{top1:9.1f}{seconds[config]:18.0f}')
    print(f'distillation {seconds[DISTILLATION]:.0f} s, everything '
          f'{time.perf_counter() - start:.0f} s; curves in {PICTURE}')
    print(NEXT)


if __name__ == '__main__':
    main()
