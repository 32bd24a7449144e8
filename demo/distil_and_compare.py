"""Distil, fine-tune and compare, on images that mmfd draws itself.

    make demo
"""
import json
import time
from statistics import mean

from matplotlib.figure import Figure
from runs import CHANCE, DISTILLATION, ROOT, draw_images, scalars, train

PICTURE = 'work_dirs/demo.png'
CURVE = ROOT / 'configs/demo/curve.json'
TEACHER = 'simclr_shapes'
STUDENTS = {  # config -> epochs of distillation
    'simclr_fd_shapes': 4,
    'simclr_fd_finished_shapes': 40,
}
FINISHED = max(STUDENTS.values())
ORANGE, BLUE, GREY = '#E69F00', '#0072B2', '#777777'  # colour-blind safe
NEXT = """
Next, with your own images and a teacher of the paper (an ImageNet-style
folder at data/imagenet, OpenAI's ViT-B-16.pt):

    python tools/convert.py openai-clip ViT-B-16.pt checkpoints/clip_vitb16.pth
    python tools/train.py configs/fd/clip_vitb_fd.py
    python tools/train.py configs/classification/clip_vitb_fd_in1k.py

README.md says how to bring another folder, and where to add a teacher.
make demo-transfer takes this student into a segmentor and a detector.
"""


def logged_curve(images='shapes'):
    """What `make demo-curve` measured: {teacher or epochs: [top-1 (%)]}."""
    curve = {}
    for row in map(json.loads, CURVE.read_text().splitlines()):
        if row['images'] == images:
            curve.setdefault(row['network'], []).append(row['top1'])
    return curve


def verdict():
    """Whether FD helps, by the log, in a sentence.

    It does if every run of the finished student is above every run of its
    teacher, on the images of the demo and on those that were drawn afresh.
    """
    curves = [logged_curve(images) for images in ('shapes', 'fresh')]
    pairs = [(curve['teacher'], curve[FINISHED]) for curve in curves]
    gap = mean(pairs[0][1]) - mean(pairs[0][0])
    if all(min(student) > max(teacher) for teacher, student in pairs):
        said = f'beats its teacher by {gap:.1f} points'
    elif gap > 0:
        said = (f'is {gap:.1f} points above its teacher, within the spread '
                'over seeds')
    else:
        said = f'is {-gap:.1f} points below its teacher'
    return f'after {FINISHED} epochs the student {said}'


def draw(path):
    """One picture: top-1 against epochs of distillation, logged and today."""
    curve = logged_curve()
    figure = Figure(figsize=(8, 4))
    axis = figure.subplots()
    [(_, teacher)] = scalars(TEACHER, 'accuracy/top1')[-1:]
    axis.axhspan(
        min(curve['teacher']),
        max(curve['teacher']),
        color=ORANGE,
        alpha=0.2,
        lw=0,
        label='its teacher, all seeds in the log')
    axis.axhline(teacher, color=ORANGE, label='its teacher (SimCLR), today')
    epochs = sorted(curve.keys() - {'teacher'})
    axis.plot(
        epochs, [mean(curve[e]) for e in epochs],
        'o--',
        color=BLUE,
        mfc='white',
        zorder=3,
        label='FD student, in the log')
    axis.vlines(
        epochs, [min(curve[e]) for e in epochs],
        [max(curve[e]) for e in epochs],
        color=BLUE)
    today = [(epochs, scalars(config, 'accuracy/top1')[-1][1])
             for config, epochs in STUDENTS.items()]
    axis.plot(*zip(*today), 'o', ms=11, color=BLUE, label='FD student, today')
    axis.axhline(CHANCE, color=GREY, ls=':', label='chance')
    axis.set(
        title=f'Fine-tuned for 3 epochs: {verdict()}',
        xlabel='epochs of distillation (0: from scratch)',
        ylabel='top-1 (%)',
        ylim=(0, 42))
    axis.legend(frameon=False, loc='center right', bbox_to_anchor=(1, 0.48))
    axis.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    start = time.perf_counter()
    draw_images()
    seconds = {
        name: train(ROOT / f'configs/demo/{name}.py')
        for name in (DISTILLATION, TEACHER, *STUDENTS)
    }
    draw(PICTURE)
    curve = logged_curve()
    names = {
        TEACHER: 'teacher (SimCLR)'
    } | {
        config: f'FD student, {epochs} epochs'
        for config, epochs in STUDENTS.items()
    }
    print(f'\n{"":28}top-1 (%)   fine-tuning (s)')
    for config, name in names.items():
        top1 = scalars(config, 'accuracy/top1')[-1][1]
        print(f'{name:28}{top1:9.1f}{seconds[config]:18.0f}')
    print(f'{"from scratch, in the log":28}{curve[0][0]:9.1f}')
    print(f'In the log, {verdict()}.')
    print(f'distillation {seconds[DISTILLATION]:.0f} s, everything '
          f'{time.perf_counter() - start:.0f} s; picture in {PICTURE}')
    print(NEXT)


if __name__ == '__main__':
    main()
