"""Does a step with two teachers cost the sum of its parts?

    python benchmarks/several_teachers.py [--rounds N]

The parts are a step of FD with the first teacher, and what the second one
adds: its forward, and forward and backward of its projection and loss. All
are timed in turn in each round, on random pixels, for each way of weighing;
printed are medians of the rounds and of their ratios.
"""
import argparse
import statistics
import time

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

BATCH, SIDE, PATCH = 16, 112, 16
ARCH = dict(
    embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536)
WEIGHTS = 'FixedWeights', 'BalancedGradients', 'TeacherDropping'


def models():
    """FD with one teacher, and with two of the same size for each way."""
    fd = Config.fromfile('configs/fd/clip_vitb_fd.py').model
    for network in fd.backbone, fd.teacher.backbone:
        network.update(arch=ARCH, img_size=SIDE, patch_size=PATCH)
    fd.teacher.update(checkpoint='random', img_size=SIDE)
    fd.neck.update(in_channels=384, out_channels=384)
    fd.backbone.drop_path_rate = 0.
    branch = {part: fd[part] for part in ('teacher', 'neck', 'head')}
    student = {
        part: fd[part]
        for part in ('backbone', 'normalize', 'data_preprocessor')
    }
    yield 'FD', MODELS.build(fd)
    for name in WEIGHTS:
        yield name, MODELS.build(
            dict(
                student,
                type='mmfd.MultiTeacherDistillation',
                branches=dict(first=branch, second=branch),
                balance=dict(type=f'mmfd.{name}')))


def step(model, pixels):
    loss, _ = model.parse_losses(model.loss(pixels))
    loss.backward()


def second(model, pixels, feats):
    """What the second teacher adds to a step."""
    branch = model.branches['second']
    branch.loss(branch.predict((feats, )), branch.teacher(pixels)).backward()


def seconds(function, *args):
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--rounds', type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE)).float()
    built = dict(models())
    feats = built['FD'].extract_feat(pixels)[-1].detach().requires_grad_()
    times = {name: [] for name in (*built, 'second')}
    for _ in range(rounds + 1):  # the first warms up
        for name, model in built.items():
            times[name].append(seconds(step, model, pixels))
        times['second'].append(
            seconds(second, built['FixedWeights'], pixels, feats))
    for name, values in times.items():
        print(f'{name:20}{1000 * statistics.median(values[1:]):8.1f} ms')
    for name in WEIGHTS:
        ratios = [
            whole / (first + part) for whole, first, part in zip(
                times[name][1:], times['FD'][1:], times['second'][1:])
        ]
        low, median, high = statistics.quantiles(ratios, n=4)
        print(f'{name:20}{median:8.3f} of the sum of its parts, quartiles '
              f'{low:.3f} and {high:.3f}')


if __name__ == '__main__':
    main()
