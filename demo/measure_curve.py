"""Measure top-1 against epochs of distillation, for the picture of the demo.

    make demo-curve

Every number of epochs is a run of its own with its whole learning-rate
schedule; a checkpoint on the way would still have a high rate. `shapes` are
the images of the demo, on which its set-up was chosen; `fresh` are others,
to train on and to test on, with seeds that chose nothing. What is trained is
not trained again; the numbers are in configs/demo/curve.json.
"""
import json
from pathlib import Path

from runs import DATA, ROOT, lines, train

from mmfd import files
from mmfd.data import toy_images

CURVE = 'configs/demo/curve.json'
IMAGES = dict(  # folder, images of each split, index of the first
    shapes=(DATA, toy_images.SPLITS, 0),
    fresh=('data/fresh_shapes', toy_images.SPLITS | dict(val=3000), 6000))
DISTILLED = dict(shapes=0, fresh=2)  # seed of the students
TEACHER = 'teacher'
RUNS = [  # images; teacher or epochs of distillation; seeds of fine-tuning
    ('shapes', TEACHER, (0, 1, 2)),
    ('shapes', 40, (0, 1, 2)),
    ('fresh', TEACHER, (2, 3)),
    ('fresh', 40, (2, 3)),
    ('shapes', 4, (0, )),
    ('shapes', 0, (0, )),  # from scratch
]
FINE_TUNED = 3  # epochs


def student(images, epochs):
    """Where the checkpoint of a student is; it is distilled if need be."""
    seed = DISTILLED[images]
    folder = f'work_dirs/curve/{images}_seed{seed}_{epochs}_epochs'
    checkpoint = f'{folder}/epoch_{epochs}.pth'
    if not Path(checkpoint).exists():
        train(ROOT / 'configs/demo/simclr_fd.py', '--resume', '--work-dir',
              folder, '--data-root', f'{IMAGES[images][0]}/imagenet',
              '--cfg-options', f'train_cfg.max_epochs={epochs}',
              f'train_cfg.val_interval={epochs}', f'randomness.seed={seed}')
    return checkpoint


def start(images, network):
    """Config of the fine-tuning of a network, and its options."""
    if network == TEACHER:
        return 'simclr_shapes', []
    if network == 0:
        return 'scratch_shapes', []
    if (images, network) == ('shapes', 40):
        return 'simclr_fd_finished_shapes', []
    checkpoint = student(images, network)
    return ('simclr_fd_shapes',
            [f'model.backbone.init_cfg.checkpoint={checkpoint}'])


def logged(name):
    """Top-1 in per cent after the last epoch of a work dir; None if none."""
    top1 = {
        line['step']: line['accuracy/top1']
        for line in lines(name) if 'accuracy/top1' in line
    }
    return top1.get(FINE_TUNED)


def top1(images, network, seed):
    """Top-1 in per cent of a fine-tuned network; it is trained if need be."""
    name = f'curve/{images}_{network}_fine_tuned_seed{seed}'
    if logged(name) is None:
        config, options = start(images, network)
        train(ROOT / f'configs/demo/{config}.py', '--work-dir',
              f'work_dirs/{name}', '--data-root',
              f'{IMAGES[images][0]}/imagenet', '--cfg-options',
              f'randomness.seed={seed}', *options)
    return logged(name)


def main():
    for folder, counts, first in IMAGES.values():
        toy_images.write(folder, counts, first)
    rows = []
    for images, network, seeds in RUNS:
        rows += [
            dict(
                images=images,
                network=network,
                seed=seed,
                top1=round(top1(images, network, seed), 2)) for seed in seeds
        ]
        with files.output_file(CURVE) as file:
            file.write_text('\n'.join(map(json.dumps, rows)) + '\n')


if __name__ == '__main__':
    main()
